"""Encode pixels: downsampling, histograms, codecs, chunks and shards. Pure."""
