"""Kubeflow Pipelines components and the plain library behind them."""
