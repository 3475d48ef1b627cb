"""Labelled images become train, validation and test shards."""
