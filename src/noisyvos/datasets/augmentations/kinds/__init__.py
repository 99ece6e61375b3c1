"""The augmentations: one module for each published system, and one for simple ones."""
