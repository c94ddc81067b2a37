"""Repair of copies: what a verification finds damaged is done again."""
