"""Statistical methods, independent of grids and files."""
