"""Where a training's data comes from: custom data, merges, semi-supervised splits, simulated merges."""
