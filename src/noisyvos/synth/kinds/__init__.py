"""Clip recipes, one file per kind."""
