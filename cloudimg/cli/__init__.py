"""The command ``cloudimg``: arguments, messages and exit codes."""
