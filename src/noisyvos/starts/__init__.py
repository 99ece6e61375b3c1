"""Starts: the weights that the first training of a chain begins with."""
