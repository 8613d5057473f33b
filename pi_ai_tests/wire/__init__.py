"""Tests of the wire formats: bytes in, wire events out."""
