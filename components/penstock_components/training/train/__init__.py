"""One distributed training: a TrainingJob from start to the exported model."""
