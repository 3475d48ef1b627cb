"""Models in service: behind an endpoint, or over a folder of data."""
