"""The documentation as a program reads it: each page's blocks of code with their markers, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
PICTURES = sorted(path for path in (ROOT / "docs" / "images").rglob("*") if path.is_file())
RUN = ("sh", "python")
MARKER = re.compile(r"<!--\s*(?P<all>all )?(?P<how>not run|slow): (?P<reason>.+?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A piece of code on a page, and what its marker says: `how` is "run", "slow" or "not run".

    A marker is an HTML comment in front of the block, `<!-- not run: needs Docker -->`, or with the word `all` anywhere
    on the page for every block that has none of its own. "slow" runs with the slow tests; calls of
    braincam are parsed in any case.
    """

    page: str
    line: int
    language: str
    text: str
    how: str
    reason: str


def name(page: Path) -> str:
    """A page's path as people write it."""
    return page.relative_to(ROOT).as_posix()


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    """A page, parsed as GitHub parses it."""
    return tuple(MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")))


def blocks(page: Path) -> Iterator[Block]:
    """The blocks to run on a page, in order."""
    everywhere = next((found for found in MARKER.finditer(page.read_text(encoding="utf-8")) if found["all"]), None)
    before: Token | None = None
    for token in tokens(page):
        if token.type == "fence" and token.info in RUN:
            here = MARKER.search(before.content) if before and before.type == "html_block" else None
            how, reason = (found["how"], found["reason"]) if (found := here or everywhere) else ("run", "")
            line = (token.map or [0])[0] + 1
            yield Block(name(page), line, token.info, token.content, how, " ".join(reason.split()))
        before = token


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Line and target of every link and picture on a page."""
    for token in tokens(page):
        for part in token.children or ():
            target = part.attrs.get("href") or part.attrs.get("src")
            if isinstance(target, str):
                yield (token.map or [0])[0] + 1, target


def anchors(page: Path) -> set[str]:
    """What GitHub, and the site, call the headings of a page."""
    found: set[str] = set()
    for heading, inline in zip(tokens(page), tokens(page)[1:], strict=False):
        if heading.type == "heading_open":
            text = "".join(part.content for part in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            number, unique = 0, slug
            while unique in found:
                number, unique = number + 1, f"{slug}-{number + 1}"
            found.add(unique)
    return found
