"""A run: its plan, each trial in fresh processes, what is kept of it, and the machine."""
