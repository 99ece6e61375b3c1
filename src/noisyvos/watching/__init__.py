"""What runs now and what ran: the log of runs, the display of Snakemake, `noisyvos status`."""
