"""The Penstock operator: TrainingJobs on Kubernetes, reconciled level by level."""
