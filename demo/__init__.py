"""One outage, watched by the customers of two services: one unprotected, one under a policy."""
