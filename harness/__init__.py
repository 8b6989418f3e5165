"""Starting servers, talking to them, and a short check that they keep the protocol.

The suite, the grader, the zoo, the benchmarks and the demo all do these through here. Standard
library only.
"""
