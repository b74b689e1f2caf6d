"""A labelled folder → a table of slices, its groups, its splits; and labelled synthetic scans."""
