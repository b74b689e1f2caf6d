"""Nothing on a page points nowhere, and no picture lies about unused."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

import braincam
from pages import PAGES, PICTURES, ROOT, anchors, blocks, links, name

sys.path.insert(0, str(ROOT / "tools"))

import command_line
import house

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
def test_every_relative_link_and_anchor_resolves(page: Path) -> None:
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


def test_every_page_stands_on_the_front_page_once() -> None:
    """The site's side bar is made of it; what another author adds is appended there, so it may be missing here."""
    listed = [target for _, target in links(ROOT / "docs" / "index.md") if target.endswith(".md")]
    assert len(listed) == len(set(listed)) >= 15


def test_the_data_sheet_begins_with_what_people_wrote() -> None:
    """So that the command which makes the sheet again loses nothing of it."""
    about = (ROOT / "docs" / "about-brain-tumor-mri.md").read_text(encoding="utf-8")
    assert about in (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_every_argument_of_every_verb_is_explained() -> None:
    for verb in command_line.verbs().values():
        for action in verb._actions:
            assert action.help, f"{verb.prog} {action.option_strings or action.dest}"


def test_the_command_line_is_documented_as_it_is() -> None:
    assert command_line.PAGE.read_text(encoding="utf-8") == command_line.page(), "run: python tools/command_line.py"


def test_the_house_is_drawn_as_it_is() -> None:
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture(), "run: python tools/house.py"


def test_the_python_interface_is_documented_whole() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = re.findall(r"^\.\. auto(?:class|function|exception):: braincam\.(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(set(braincam.__all__) - {"__version__"})
