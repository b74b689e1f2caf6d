"""What benchmarks, tools and examples take from the package is there: most of them are run by hand only."""

from __future__ import annotations

import ast
import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for folder in ("benchmarks", "tools", "examples") for path in (ROOT / folder).glob("*.py"))


def test_the_scripts_are_found() -> None:
    assert len(SCRIPTS) > 30


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_a_script_takes_from_the_package_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "braincam":
            module = importlib.import_module(str(node.module))
            for name in node.names:
                inside = hasattr(module, "__path__") and find_spec(f"{node.module}.{name.name}")
                assert hasattr(module, name.name) or inside, f"{node.module} has no {name.name}"
