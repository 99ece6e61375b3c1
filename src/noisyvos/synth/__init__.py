"""Synthetic training clips from still images: recipes, clips and their shards."""
