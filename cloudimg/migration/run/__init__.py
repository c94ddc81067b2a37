"""A migration under way: inputs, cells, executors, progress."""
