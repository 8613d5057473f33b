"""Logging in: the protocol of a login, the tools that flows are made of, and the built-in flows."""
