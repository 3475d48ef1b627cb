"""A model against the test shards, and the gate that decides on the result."""
