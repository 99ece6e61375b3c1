"""The grid of cells, what dvc.yaml says of them, and how Snakemake and DVC hand finished work to each other."""
