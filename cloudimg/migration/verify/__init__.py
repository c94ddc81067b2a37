"""Verification of copies: everything a copy holds is read again and compared."""
