"""Tests of the tools: launcher, client, grader, zoo, limits, tasks, and the suite itself."""
