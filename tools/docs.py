"""Build the documentation site offline, and prove its pages: `make docs`.

    python tools/docs.py [--out build/docs] [--site-only]

Sphinx with warnings as errors; then nothing on a built page may be loaded from elsewhere; then the tests of links,
pictures and commands, the long ones included. Prints counts; the exit code says whether all held. Needs `dev`, `docs`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from pages import PAGES, PICTURES, links  # noqa: E402

LOADED = re.compile(r"<(?:script|img|source|iframe|link(?! rel=\"(?:canonical|search|index|next|prev)\"))\b[^>]*>")
ELSEWHERE = re.compile(r"(?:src|href)=\"(?:https?:)?//[^\"]*\"")
IN_STYLES = re.compile(r"(?:url\(|@import )\s*['\"]?(?:https?:)?//")
TESTS = ("tests/test_pages.py", "tests/test_commands.py")
PARALLEL = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")


def main() -> int:
    """Build, look, test, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs")
    parser.add_argument("--site-only", action="store_true", help="leave the tests out")
    options = parser.parse_args()
    began = time.perf_counter()
    shutil.rmtree(options.out, ignore_errors=True)
    if failed := module("sphinx", "-q", "-W", "--keep-going", "-b", "html", ROOT / "docs", options.out):
        return failed
    if strangers := loaded_from_elsewhere(options.out):
        print("\n".join(strangers), file=sys.stderr)
        return 1
    if not options.site_only and (failed := module("pytest", *PARALLEL, "-m", "slow or not slow", *TESTS)):
        return failed
    pages = [page for page in options.out.glob("*.html") if page.stem not in {"genindex", "search", "py-modindex"}]
    relative = sum(not target.startswith(("http", "mailto:")) for page in PAGES for _, target in links(page))
    print(f"pages      {len(pages)}, without a warning, nothing loaded from elsewhere: {options.out / 'index.html'}")
    if not options.site_only:
        print(f"links      {relative} relative links and anchors resolve")
        print(f"pictures   {len(PICTURES)}, each of them shown")
    print(f"took       {time.perf_counter() - began:.0f} s")
    return 0


def module(name: str, *arguments: str | Path) -> int:
    """Run `python -m NAME`; returns its exit code."""
    return subprocess.run([sys.executable, "-m", name, *map(str, arguments)], cwd=ROOT, check=False).returncode


def loaded_from_elsewhere(site: Path) -> list[str]:
    """What a browser would fetch from other hosts when it shows the pages."""
    found = []
    for page in sorted(site.rglob("*.html")):
        tags = LOADED.findall(page.read_text(encoding="utf-8"))
        found += [f"{page}: loads {where[0]}" for tag in tags if (where := ELSEWHERE.search(tag))]
    for style in sorted(site.rglob("*.css")):
        if IN_STYLES.search(style.read_text(encoding="utf-8")):
            found.append(f"{style}: loads a font, a picture or a style from another host")
    return found


if __name__ == "__main__":
    sys.exit(main())
