"""Real Kubernetes on one machine, for demos and tests."""
