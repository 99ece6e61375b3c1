"""Fetching of published archives: transfers that survive kills, checks, careful unpacking."""
