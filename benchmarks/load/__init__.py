"""Loading a server, in a process of its own."""
