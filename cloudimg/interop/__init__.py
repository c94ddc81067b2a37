"""Images in the programs of others, by the interfaces that these have for it."""
