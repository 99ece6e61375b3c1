"""Training methods: how noisy labels are treated."""
