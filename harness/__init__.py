"""Start servers, talk to them, and check quickly that they keep the protocol.

The suite, the grader, the zoo, the benchmarks and the demo share this package. It needs the
standard library only.
"""
