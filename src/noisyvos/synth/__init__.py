"""Synthetic video from still images: recipes and their shards."""
