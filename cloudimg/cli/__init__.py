"""What a person types: arguments, messages and exit codes of the command ``cloudimg``."""
