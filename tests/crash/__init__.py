"""How processes end, and what is on disk then."""
