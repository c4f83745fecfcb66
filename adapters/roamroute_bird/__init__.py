"""roamroute's adapter for BIRD."""
