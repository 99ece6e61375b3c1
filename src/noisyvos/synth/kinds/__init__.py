"""Recipes of synthetic clips."""
