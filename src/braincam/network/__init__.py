"""The attention CNN and the preprocessing in front of it (torch)."""
