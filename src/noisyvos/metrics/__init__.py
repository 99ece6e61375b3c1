"""Scoring masks: J, F and J&F."""
