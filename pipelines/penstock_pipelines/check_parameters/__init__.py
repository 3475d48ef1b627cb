"""The pipeline's parameters, checked before anything costs money."""
