"""The plan of a run: which trial comes when, on which cores of which machine."""
