"""A model over a folder of shards."""
