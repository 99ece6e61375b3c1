"""The grid of cells, the code they depend on, and what Snakemake and DVC need to run them."""
