"""Programs that run in the trainer's image, not in the components': each a file of its own, brought there by a ConfigMap."""
