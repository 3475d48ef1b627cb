"""Kubeflow pipelines, one module each, and the components that only pipelines need."""
