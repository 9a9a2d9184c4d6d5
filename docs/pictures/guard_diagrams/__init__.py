"""The diagrams of the guards: a canvas, what real guards do in virtual time, the drawings."""
