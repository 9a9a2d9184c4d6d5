"""Limits that a fleet shares through its Redis: asked for by a thread, never by a call."""
