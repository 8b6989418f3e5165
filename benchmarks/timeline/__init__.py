"""One conversation on four concurrency models: recorded, joined and drawn under one time axis."""
