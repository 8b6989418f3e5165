"""The experiments, one module each. A new one is a module, its import here, and its place below."""

from benchmarks.experiments import churn, cores, fairness, fanout, idle, ping, rush, stall, work
from benchmarks.experiments.experiment import Experiment

# By name, in the order in which they are run and shown.
EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (ping, fanout, idle, churn, stall, work, rush, fairness, cores)
}
