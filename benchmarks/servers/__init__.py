"""Starting servers, talking to them, and a short check that they keep the protocol."""
