"""Nothing on a page points nowhere, and no picture lies about unused."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from pages import PAGES, PICTURES, ROOT, anchors, blocks, links, name

ELSEWHERE = ("http://", "https://", "mailto:")


def unresolved(page: Path, target: str) -> str | None:
    """What is wrong with a relative link, or None."""
    path, _, anchor = unquote(target).partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return f"{target}: no such file"
    if not file.is_relative_to(ROOT):
        return f"{target}: outside of the repository"
    if anchor and (file.suffix != ".md" or anchor not in anchors(file)):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_and_anchor_resolves(page: Path, request: pytest.FixtureRequest) -> None:
    found = [(line, target) for line, target in links(page) if not target.startswith(ELSEWHERE)]
    wrong = [f"{name(page)}:{line}: {what}" for line, target in found if (what := unresolved(page, target))]
    assert not wrong, "\n".join(wrong)


def test_a_wrong_link_is_seen(tmp_path: Path) -> None:
    here = ROOT / "docs" / "index.md"
    assert unresolved(here, "absent.md") == "absent.md: no such file"
    assert unresolved(here, "../README.md#absent") == "../README.md#absent: no such heading"
    assert unresolved(here, "../..") == "../..: outside of the repository"
    assert unresolved(here, "../README.md#predict") is None


def test_every_picture_is_shown_and_every_shown_one_is_there() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for _, target in links(page)
        if not target.startswith(ELSEWHERE) and Path(target).suffix in {".png", ".svg", ".jpg"}
    }
    assert {path for path in shown if path.is_relative_to(ROOT / "docs")} == set(PICTURES)


def test_a_block_that_is_not_run_says_why() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert (block.how == "run") == (block.reason == ""), f"{block.page}:{block.line}"
