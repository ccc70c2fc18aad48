"""Training and its surroundings: the LightningModule, run folders, checkpoints, loggers, callbacks."""
