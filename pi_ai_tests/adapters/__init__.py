"""Tests of the API adapters, one file an API and side of it."""
