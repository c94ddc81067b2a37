"""The public functions: each checks its arguments and calls the layers below."""
