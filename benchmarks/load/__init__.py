"""The load on one server, and what is read of the server from outside."""
