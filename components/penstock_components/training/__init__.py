"""Training on the cluster, as steps of a pipeline."""
