"""Inference surgery: networks made faster without changing what they compute."""
