"""The experiments, one module each. A new one is a module here and its name in this list."""

EXPERIMENTS = ("ping", "fanout", "idle", "churn", "stall", "work")
