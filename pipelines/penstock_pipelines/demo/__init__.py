"""`make demo-pipeline`: the whole road on one machine, from images without labels to a prediction from inside the cluster."""
