"""Heat maps and pictures."""
