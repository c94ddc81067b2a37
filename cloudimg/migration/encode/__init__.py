"""Pixels to stored bytes: downsampling, codecs, shards, histograms. Pure."""
