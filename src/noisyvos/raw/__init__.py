"""Where raw data comes from: generated sources, and folders put there by hand."""
