"""Counts in files that the processes of a host share: a page for each process."""
