"""Declarative experiments on video object segmentation with noisy labels."""

__version__ = "0.1.0"
