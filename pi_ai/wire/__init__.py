"""Bytes to wire events, sans-IO: nothing in here waits, and nothing knows HTTP."""
