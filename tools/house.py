"""Draw docs/images/house.svg, the layers of the code, from the import-linter contracts in pyproject.toml.

    python tools/house.py

The layers are those of the first contract. A module is for prediction only where the contract against torch names it,
or where it imports nothing that only `braincam[train]` brings. Its words are the first line of its docstring.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path
from textwrap import wrap
from xml.sax.saxutils import escape

import grimp

from braincam.files import write_text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "house.svg"

WIDTH, MARGIN, GAP = 960, 28, 10  # pixels
FLOOR, TALL = 58, 72  # the height of a floor, and of one with many rooms
ROOF, FOOT = 84, 70
LABEL, TEXT = 15, 11.5  # font sizes
RULE = "Each layer uses the layers below it, never one above. Modules of one layer do not use each other."
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
    "runtime": "prediction only: never imports torch",
    "training": "training: needs braincam[train]",
    "both": "modules of both kinds",
}
TRAINING_ONLY = ("torch", "torchvision", "pandas", "matplotlib", "sklearn", "onnx", "safetensors")


def main() -> None:
    """Write the picture."""
    write_text(PICTURE, picture())


def picture() -> str:
    """The house as SVG."""
    floors, without_torch = contracts()
    tops = list(accumulate((tallness(floor) + GAP for floor in floors), initial=ROOF))
    height = tops[-1] + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>The layers of braincam: each uses those below it, never those above</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="12"/>',
        text(MARGIN, 38, "Layers", size=21, kind="name"),
        text(MARGIN, 62, RULE),
    ]
    for floor, top in zip(floors, tops, strict=False):
        parts += rooms(floor, top, without_torch)
    parts += [*legend(height - 40), *arrow(ROOF, height - FOOT - GAP), "</svg>"]
    return "\n".join(parts) + "\n"


def contracts() -> tuple[list[list[str]], set[str]]:
    """The floors from the top, each a list of modules, and the modules that never import torch."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(contract for contract in settings["contracts"] if contract["type"] == "layers")
    forbidden = next(contract for contract in settings["contracts"] if contract["type"] == "forbidden")
    floors = [re.split(r" [:|] ", floor) for floor in layers["layers"]]
    return [floor for floor in floors if floor != ["braincam.__main__"]], set(forbidden["source_modules"])


def tallness(floor: list[str]) -> int:
    """How high a floor is: many rooms are narrow, and need more lines."""
    return TALL if len(floor) > 2 else FLOOR


def rooms(floor: list[str], top: int, without_torch: set[str]) -> Iterator[str]:
    """The boxes of one floor, equally wide."""
    whole = WIDTH - 2 * MARGIN - 26  # the arrow's place
    width = (whole - GAP * (len(floor) - 1)) / len(floor)
    high = tallness(floor)
    for number, module in enumerate(floor):
        left = MARGIN + number * (width + GAP)
        yield (
            f'<rect class="{wing(module, without_torch)}" x="{left:.1f}" y="{top}" width="{width:.1f}" '
            f'height="{high}" rx="7"/>'
        )
        yield text(left + 12, top + 23, module.removeprefix("braincam."), size=LABEL, kind="name")
        for line, words in enumerate(fitted(purpose(module), int((width - 20) / (TEXT * 0.52)), (high - 32) // 13)):
            yield text(left + 12, top + 40 + 13 * line, words, size=TEXT)


def wing(module: str, without_torch: set[str]) -> str:
    """Where a module lives: in the wing that never imports torch, in the other, or with rooms in both."""
    if module in without_torch:
        return "runtime"
    if any(name.startswith(f"{module}.") for name in without_torch):
        return "both"
    chains = (graph().find_shortest_chain(module, heavy, as_packages=True) for heavy in TRAINING_ONLY)
    return "training" if any(chains) else "runtime"


@cache
def graph() -> grimp.ImportGraph:
    """Who imports whom, as the linter sees it."""
    return grimp.build_graph("braincam", include_external_packages=True, exclude_type_checking_imports=True)


def purpose(module: str) -> str:
    """The first sentence of a module's docstring."""
    path = ROOT / "src" / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    said = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return " ".join(said.split()).replace("`", "")


def fitted(words: str, width: int, most: int) -> list[str]:
    """Lines of at most `width` letters; what needs more than `most` of them is cut, after a clause if there is one."""
    if len(wrap(words, width)) > most:
        words = re.split(r"[:;] ", words)[0]
    return wrap(words, width, max_lines=most, placeholder=" …")


def legend(top: int) -> Iterator[str]:
    """What the colours mean."""
    left = MARGIN
    for kind, meaning in WINGS.items():
        yield f'<rect class="{kind}" x="{left}" y="{top}" width="18" height="18" rx="4"/>'
        yield text(left + 26, top + 14, meaning, size=13)
        left += 56 + len(meaning) * 7


def arrow(top: int, bottom: int) -> Iterator[str]:
    """From the upper floors to the lower, beside the house: the direction of imports."""
    x = WIDTH - MARGIN - 8
    yield f'<path class="arrow" d="M {x} {top} V {bottom} m -6 -9 l 6 9 l 6 -9"/>'


def text(x: float, y: float, words: str, size: float = 13, kind: str = "soft") -> str:
    """One line of text."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" font-size="{size}">{escape(words)}</text>'


if __name__ == "__main__":
    main()
