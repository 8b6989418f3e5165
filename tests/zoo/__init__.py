"""Fifteen classic bugs of chat servers, each a small diff against one of ours: see README.md."""
