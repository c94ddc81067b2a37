"""What will be written, as arithmetic: chunks, shards, cells, stages. Pure."""
