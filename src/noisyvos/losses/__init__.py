"""Losses per pixel and per region."""
