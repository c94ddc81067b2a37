"""Plan what is written: chunks, shards, levels, stages and cells. Pure."""
