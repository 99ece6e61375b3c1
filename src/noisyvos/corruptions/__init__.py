"""Image corruptions at test time: the robustness benchmark of AOC-Net."""
