"""Segmenting videos with a trained network."""
