"""The experiments: each states its question, its method, and what was expected of it."""
