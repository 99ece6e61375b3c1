"""The dataset kinds: one module for each form in which raw material comes."""
