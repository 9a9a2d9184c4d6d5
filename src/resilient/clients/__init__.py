"""Guarding an object that somebody else wrote: `Policy.wrap`."""
