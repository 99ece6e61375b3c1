"""Corrupted images at test time: how a trained network stands disturbed frames (the robustness benchmark of AOC-Net)."""
