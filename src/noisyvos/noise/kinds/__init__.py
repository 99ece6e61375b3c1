"""Noise kinds, one file per kind or family of kinds."""
