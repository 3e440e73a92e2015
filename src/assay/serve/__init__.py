"""Gold and silver to people."""
