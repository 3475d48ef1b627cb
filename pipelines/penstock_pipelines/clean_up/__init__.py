"""The end of a run, however it came: nothing of it goes on costing money."""
