"""What CHANGELOG.md says of one version, as the text of its release.

    python tools/release_notes.py [--tag v0.1.0]

With `--tag` the tag must name the version of pyproject.toml, and nothing may wait under "Unreleased": what is built
from a tag is what the changelog says. Exit code 1 and one line on stderr otherwise.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


class NotesError(Exception):
    """Tag, version and changelog do not agree; the text says how."""


def version_of(project: str) -> str:
    """The version in the text of a pyproject.toml."""
    found: str = tomllib.loads(project)["project"]["version"]
    return found


def section(changelog: str, heading: str) -> str:
    """What stands below ``## heading``, to the next heading of its level; "" where there is none or nothing."""
    found = re.search(
        rf"^## \[?{re.escape(heading)}\]?(?: [^\n]*)?\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    return found.group(1).strip() if found else ""


def notes(project: str, changelog: str, tag: str | None = None) -> str:
    """The text of the release of the version in `project`.

    Raises:
        NotesError: the changelog has nothing on this version, or the tag and the changelog are of another one.
    """
    version = version_of(project)
    text = section(changelog, version)
    if not text:
        raise NotesError(f"CHANGELOG.md: expected a section '## {version}' with something in it; write it first")
    if tag is not None and tag != f"v{version}":
        raise NotesError(f"tag {tag}: expected v{version}, the version in pyproject.toml; change one of them")
    if tag is not None and (waiting := section(changelog, "Unreleased")):
        raise NotesError(
            f"CHANGELOG.md: {len(waiting.splitlines())} lines wait under Unreleased; move them under {version} before "
            "it is tagged"
        )
    return text


def main() -> int:
    """Print the notes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", help="the tag that is released, such as v0.1.0")
    tag = parser.parse_args().tag
    project, changelog = ((ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "CHANGELOG.md"))
    try:
        print(notes(project, changelog, tag))
    except NotesError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
