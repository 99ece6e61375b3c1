"""Augmentations of training clips: `base` holds the registry, `kinds` what is registered."""
