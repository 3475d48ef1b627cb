"""Progress reports and helpers for programs that run inside a TrainingJob."""
