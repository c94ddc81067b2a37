"""Running a migration: inputs, cells, stages, executors."""
