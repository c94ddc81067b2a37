"""Everything that a copy holds, read again and compared."""
