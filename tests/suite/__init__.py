"""The protocol: what a server of either profile has to do, and what a run says about it."""
