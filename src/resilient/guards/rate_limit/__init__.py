"""How many calls may begin in a time."""
