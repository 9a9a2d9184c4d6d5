"""The last good answer: keys, memory, and what it shows."""
