"""The study's launcher, its demo and its benchmarks: `python3 -m benchmarks --help`."""
