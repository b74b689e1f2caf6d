"""Draw docs/images/house.svg, the floors of the code, from the import-linter contracts in pyproject.toml.

    python tools/house.py

The floors are the layers of the first contract; a module is of the runtime wing where the contract against torch names
it, of the training wing otherwise. What a module is comes from the first line of its docstring.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from braincam.files import write_text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "house.svg"

WIDTH, MARGIN, GAP, FLOOR = 960, 28, 10, 58  # pixels
ROOF, FOOT = 84, 70
LABEL, TEXT = 15, 11.5  # font sizes
STYLE = """
    svg { --paper: #ffffff; --ink: #1c2128; --soft: #57606a; --runtime: #dbeafe; --runtime-edge: #3b82f6;
          --training: #fef0d5; --training-edge: #d97706; --both: #ececf1; --both-edge: #8b8fa3 }
    @media (prefers-color-scheme: dark) {
      svg { --paper: #14181e; --ink: #e6edf3; --soft: #9aa4b0; --runtime: #16283f; --runtime-edge: #4f93f5;
            --training: #38290f; --training-edge: #d9922e; --both: #262a33; --both-edge: #7d8496 } }
    text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink) }
    .paper { fill: var(--paper) }
    .soft { fill: var(--soft) }
    .name { font-weight: 600 }
    .runtime { fill: var(--runtime); stroke: var(--runtime-edge) }
    .training { fill: var(--training); stroke: var(--training-edge) }
    .both { fill: var(--both); stroke: var(--both-edge) }
    .arrow { stroke: var(--soft); fill: none; stroke-width: 1.5 }
"""
WINGS = {
    "runtime": "never imports torch",
    "training": "needs braincam[train]",
    "both": "parts in both wings",
}


def main() -> None:
    """Write the picture."""
    write_text(PICTURE, picture())


def picture() -> str:
    """The house as SVG."""
    floors, without_torch = contracts()
    height = ROOF + len(floors) * (FLOOR + GAP) + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>The floors of braincam: each uses those below it, never those above</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="12"/>',
        text(MARGIN, 38, "The house", size=21, kind="name"),
        text(MARGIN, 62, "Each floor uses the floors below it, never one above. Rooms of one floor do not know each other."),
    ]
    for number, floor in enumerate(floors):
        parts += rooms(floor, ROOF + number * (FLOOR + GAP), without_torch)
    parts += [*legend(height - 40), *arrow(ROOF, height - FOOT - GAP), "</svg>"]
    return "\n".join(parts) + "\n"


def contracts() -> tuple[list[list[str]], set[str]]:
    """The floors from the top, each a list of modules, and the modules that never import torch."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(contract for contract in settings["contracts"] if contract["type"] == "layers")
    forbidden = next(contract for contract in settings["contracts"] if contract["type"] == "forbidden")
    return [floor.split(" : ") for floor in layers["layers"]], set(forbidden["source_modules"])


def rooms(floor: list[str], top: int, without_torch: set[str]) -> Iterator[str]:
    """The boxes of one floor, equally wide."""
    whole = WIDTH - 2 * MARGIN - 26  # the arrow's place
    width = (whole - GAP * (len(floor) - 1)) / len(floor)
    for number, module in enumerate(floor):
        left = MARGIN + number * (width + GAP)
        yield (
            f'<rect class="{wing(module, without_torch)}" x="{left:.1f}" y="{top}" width="{width:.1f}" '
            f'height="{FLOOR}" rx="7"/>'
        )
        yield text(left + 12, top + 23, module.removeprefix("braincam."), size=LABEL, kind="name")
        for line, words in enumerate(wrapped(purpose(module), int((width - 20) / (TEXT * 0.55)))[:2]):
            yield text(left + 12, top + 38 + 13 * line, words, size=TEXT)


def wing(module: str, without_torch: set[str]) -> str:
    """Where a module lives: in the wing that never imports torch, in the other, or with parts in both."""
    if module in without_torch or not imports_torch(module):
        return "runtime"
    return "both" if any(name.startswith(f"{module}.") for name in without_torch) else "training"


def imports_torch(module: str) -> bool:
    """Whether a module or its parts import torch, or what only the training wing has, themselves or through braincam."""
    import grimp

    graph = grimp.build_graph("braincam", include_external_packages=True, exclude_type_checking_imports=True)
    return bool(graph.find_shortest_chain(importer=module, imported="torch", as_packages=True))


def purpose(module: str) -> str:
    """The first sentence of a module's docstring."""
    path = ROOT / "src" / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    said = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return " ".join(said.split()).replace("`", "")


def wrapped(words: str, width: int) -> list[str]:
    """Lines of at most so many letters; what does not fit two of them ends at a sentence, a colon or three dots."""
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    if len(lines) > 2:
        lines[1] = lines[1].rstrip(".,:;") + " …"
    return lines


def legend(top: int) -> Iterator[str]:
    """What the colours mean."""
    left = MARGIN
    for kind, meaning in WINGS.items():
        yield f'<rect class="{kind}" x="{left}" y="{top}" width="18" height="18" rx="4"/>'
        yield text(left + 26, top + 14, meaning, size=13)
        left += 60 + len(meaning) * 8


def arrow(top: int, bottom: int) -> Iterator[str]:
    """From the upper floors to the lower, beside the house: the direction of imports."""
    x = WIDTH - MARGIN - 8
    yield f'<path class="arrow" d="M {x} {top} V {bottom} m -6 -9 l 6 9 l 6 -9"/>'


def text(x: float, y: float, words: str, size: float = 13, kind: str = "soft") -> str:
    """One line of text."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" font-size="{size}">{escape(words)}</text>'


if __name__ == "__main__":
    main()
