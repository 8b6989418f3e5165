"""Limits without root: how each version is predicted to behave at the end of its system, and did.

`python3 -m tests.limits` prints it, `tests/suite/test_limits_lab.py` asserts it. Each limit is
a module with a LIMIT in it; standard library only. See README.md here.
"""
