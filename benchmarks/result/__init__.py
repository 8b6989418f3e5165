"""From trials to numbers that may be compared."""
