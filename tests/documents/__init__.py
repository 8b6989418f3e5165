"""Tests of what is read: documents, quoted code, commands, and how the servers are laid out."""
