"""The stages of the pipeline: one module each; only these touch paths."""
