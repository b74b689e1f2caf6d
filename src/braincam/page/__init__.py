"""The page as static files that answer in the browser itself: no server, no upload."""
