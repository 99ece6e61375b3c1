"""A user's videos, and pictures of masks: reading and writing videos, overlays, contact sheets."""
