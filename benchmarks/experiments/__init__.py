"""The experiments, one module each. A new one is a module here and its name in this list."""

import importlib
from types import ModuleType

EXPERIMENTS = (
    "ping",
    "fanout",
    "idle",
    "churn",
    "stall",
    "work",
    "rush",
    "fairness",
    "cores",
)


def module(experiment: str) -> ModuleType:
    """The module of an experiment."""
    return importlib.import_module(f"benchmarks.experiments.{experiment}")
