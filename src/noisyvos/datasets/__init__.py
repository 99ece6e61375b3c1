"""Datasets: one module per on-disk form; each converts raw files to the layout of `layout.py`."""
