"""Fetching of published archives: transfers that survive kills, checks of length and digest, careful unpacking."""
