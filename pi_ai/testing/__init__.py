"""Testing kit: servers that speak the real protocols on loopback."""
