"""The retry: its decisions, and what it shows."""
