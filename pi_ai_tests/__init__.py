"""Tests of pi_ai. They speak to real servers on loopback, replay recorded bytes, and run on every event loop."""
