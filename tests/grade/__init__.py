"""Grade somebody's server: points per rule, the concurrency model seen from outside, a report."""
