"""roamroute's adapter for FRR."""
