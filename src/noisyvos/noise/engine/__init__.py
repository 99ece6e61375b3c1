"""Machinery that the noise kinds share."""
