"""What watches a training run: progress, history on disk, checkpoints, weight averages, pictures."""
