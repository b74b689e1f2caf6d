"""Answers over HTTP: the REST interface and the page. Needs the extra `serve`; never imports torch."""
