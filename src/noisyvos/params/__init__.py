"""The parameter files: reading, presets, validation."""
