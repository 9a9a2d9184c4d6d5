"""The adaptive concurrency limit."""
