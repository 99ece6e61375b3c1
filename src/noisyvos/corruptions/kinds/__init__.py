"""Image corruptions, one file per kind."""
