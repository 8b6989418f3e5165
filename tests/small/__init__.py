"""What each small.py keeps of PROTOCOL.md, what it breaks, and what server.py has for that."""
