"""Someone's own method beside what a preset has trained: `noisyvos compare`."""
