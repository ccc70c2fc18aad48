"""What a training step costs: FLOPs, memory, GPU hours."""
