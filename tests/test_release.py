"""What is released is what was locked, tagged and written down."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from release_notes import NotesError, notes, section, version_of  # noqa: E402

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def asked_for(extra: str) -> list[Requirement]:
    """What the package and one of its extras need, with the extras that it names."""
    project = tomllib.loads(PROJECT)["project"]
    found, extras, seen = [Requirement(line) for line in project["dependencies"]], [extra], set()
    while extras:
        name = extras.pop()
        if name in seen:
            continue
        seen.add(name)
        for requirement in map(Requirement, project["optional-dependencies"][name]):
            if requirement.name == "braincam":
                extras += requirement.extras
            else:
                found.append(requirement)
    return found


def locked() -> dict[str, tuple[str, int]]:
    """Name -> version and number of hashes, as requirements/test.txt holds them."""
    text = (ROOT / "requirements" / "test.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", text, re.MULTILINE)
    rest = [line for line in text.splitlines() if not re.match(r"#|[A-Za-z0-9._-]+==|    --hash=", line)]
    assert rest == [], "only pins and hashes"
    return {canonicalize_name(name): (version, hashes.count("--hash")) for name, version, hashes in entries}


def test_the_lock_holds_all_that_the_tests_need_in_versions_that_are_allowed() -> None:
    pins = locked()
    build = (ROOT / "requirements" / "build.in").read_text(encoding="utf-8").splitlines()
    needed = [*asked_for("dev"), *(Requirement(line) for line in build if not line.startswith("#"))]
    assert len(needed) > 30
    for requirement in needed:
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not in requirements/test.txt: run make lock"
        assert requirement.specifier.contains(pins[name][0]), f"{requirement}, locked {pins[name][0]}: run make lock"


def test_every_pin_has_a_hash_and_no_address_is_named() -> None:
    pins = locked()
    assert len(pins) > 100
    assert [name for name, (_, hashes) in pins.items() if not hashes] == []
    text = (ROOT / "requirements" / "test.txt").read_text(encoding="utf-8")
    assert "://" not in text and "index" not in text.replace("importlib", "")


def test_the_build_needs_what_is_locked_for_it() -> None:
    asked = tomllib.loads(PROJECT)["build-system"]["requires"]
    given = (ROOT / "requirements" / "build.in").read_text(encoding="utf-8").splitlines()
    assert set(asked) <= set(given)


LOG = """# Changelog

## Unreleased

{waiting}

## 1.2.0 (2030-01-02)

### Added

- This.

## 1.1.0

- That.
"""
AT = '[project]\nversion = "{}"\n'


def test_the_notes_of_a_version_are_its_section() -> None:
    text = LOG.format(waiting="- Later.")
    assert section(text, "1.2.0") == "### Added\n\n- This."
    assert section(text, "1.1.0") == "- That."
    assert section(text, "1.2") == section(text, "9.9.9") == ""
    assert notes(AT.format("1.2.0"), text) == "### Added\n\n- This."


def test_a_tag_that_is_not_the_version_or_comes_too_early_is_refused() -> None:
    ready = LOG.format(waiting="")
    assert notes(AT.format("1.2.0"), ready, "v1.2.0") == "### Added\n\n- This."
    for tag in ("v1.1.0", "1.2.0", "v1.2.0rc1"):
        with pytest.raises(NotesError, match=r"expected v1\.2\.0"):
            notes(AT.format("1.2.0"), ready, tag)
    with pytest.raises(NotesError, match="1 lines wait under Unreleased"):
        notes(AT.format("1.2.0"), LOG.format(waiting="- Later."), "v1.2.0")
    with pytest.raises(NotesError, match=r"expected a section '## 1\.3\.0'"):
        notes(AT.format("1.3.0"), ready)


def test_this_version_has_notes() -> None:
    assert notes(PROJECT, CHANGELOG) == section(CHANGELOG, version_of(PROJECT)) != ""


def test_actions_are_pinned_by_their_commit_and_only_the_release_may_write() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in used)
    assert workflow["permissions"] == {"contents": "read"}
    writing = [name for name, job in workflow["jobs"].items() if "permissions" in job]
    assert writing == ["publish"]
    assert workflow["jobs"]["publish"]["if"] == "github.ref_type == 'tag'"
    assert set(workflow["jobs"]["publish"]["needs"]) == set(workflow["jobs"]) - {"publish"}
