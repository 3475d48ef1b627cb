"""A model behind an endpoint, replaced without a gap."""
