"""How Sphinx builds the site from these pages. `make docs` calls it; nothing is fetched."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

import braincam

HERE = Path(__file__).parent

project = "braincam"
author = "The braincam authors"
project_copyright = "the braincam authors, Apache-2.0"
version = release = braincam.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["about-brain-tumor-mri.md"]  # the head of data.md, for `braincam audit --about`
default_role = "code"  # docstrings are written with single backticks

myst_heading_anchors = 4
myst_links_external_new_tab = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"braincam {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_logo = html_favicon = "../src/braincam/serve/page/icon.svg"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "footer_icons": [],
    "light_css_variables": {"color-brand-primary": "#a3164d", "color-brand-content": "#a3164d"},
    "dark_css_variables": {"color-brand-primary": "#ff7a9c", "color-brand-content": "#ff7a9c"},
}


def add_contents(_: Sphinx, page: str, source: list[str]) -> None:
    """Make the side bar from the lists on the front page, so that GitHub's readers see plain lists.

    Each heading with a list of pages becomes a part of it; pages that stand in no list go into the last.
    """
    if page != "index":
        return
    parts = [part.partition("\n")[::2] for part in source[0].split("\n## ")[1:]]
    contents = {title: re.findall(r"\]\(([\w-]+)\.md\)", text) for title, text in parts}
    listed = {name for names in contents.values() for name in names} | {"index", "about-brain-tumor-mri"}
    contents[parts[-1][0]] += sorted({path.stem for path in HERE.glob("*.md")} - listed)
    for title, names in contents.items():
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title}", "", *names, "```", ""])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
