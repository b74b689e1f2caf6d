"""The attention CNN, its peer, and the preprocessing in front of them (torch)."""
