"""Label noise: corrupt, kinds."""
