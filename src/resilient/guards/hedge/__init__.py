"""The hedge: when a second copy begins, and what it shows."""
