"""Statistical methods."""
