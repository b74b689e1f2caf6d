"""Answers over HTTP, and the page that shows them. Never imports torch; writes nothing to disk."""
