"""Who takes part in the measurements: ours, the floors in C, the tutorials' server, and yours."""
