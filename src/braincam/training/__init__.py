"""The recipe (torch)."""
