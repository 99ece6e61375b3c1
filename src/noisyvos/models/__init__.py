"""Networks for video object segmentation: `available`, `build`, `load_official`."""
