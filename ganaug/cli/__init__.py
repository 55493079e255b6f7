"""The command ``ganaug``."""
