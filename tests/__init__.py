"""The suite, and the tools built on it: `python3 -m tests.grade`, `.zoo` and `.limits`."""
