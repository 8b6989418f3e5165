"""Tests of the benchmarks: arithmetic, load, experiments, reports, commands, and the demo."""
