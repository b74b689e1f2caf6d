"""A folder of static files: the page of `braincam serve`, the model, and the runtime that answers in the browser."""

from __future__ import annotations

import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from braincam.errors import ConfigError
from braincam.files import write_bytes
from braincam.model_file.zoo import ModelFile
from braincam.page.runtime import runtime_files

CHARSET = '<meta charset="utf-8">\n'
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",  # WebAssembly, and no other evaluation
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
    )
)
SERVERS = ("server.js", "engine.js")  # of the page; what answers here stands in their place


def write_page(out: Path, model: ModelFile, runtime: Path | None = None) -> int:
    """Write the folder `out`; returns how many bytes it holds. `runtime`: see `runtime_files`.

    A page that is there already is replaced, file by file.

    Raises:
        ConfigError: `out` is a file, or holds something else than such a page.
        ModelFileError: the model cannot be read.
        MissingDependencyError: onnxruntime-web cannot be had.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / "static" / "model.json").is_file()):
        raise ConfigError(f"--out {out}: expected a new or empty folder, or a page made before; choose another")
    card = model.card()
    facts = {"name": card.name, "sha256": model.sha256, "card": card.summary()}
    # written first: by it the next call knows a page, also one that was interrupted
    content = {"static/model.json": json.dumps(facts, ensure_ascii=False).encode()}
    content |= {f"static/onnxruntime/{name}": data for name, data in runtime_files(runtime).items()}
    package = files("braincam")
    page = package.joinpath("serve", "page")
    content |= {f"static/{name}": data for name, data in _below(page).items() if name not in {"index.html", *SERVERS}}
    content |= {f"static/{name}": data for name, data in _below(package.joinpath("page", "local")).items()}
    content["static/model.onnx"] = model.content
    html = page.joinpath("index.html").read_text(encoding="utf-8")
    policy = f'{CHARSET}<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    content["index.html"] = html.replace(CHARSET, policy, 1).encode()
    for name, data in content.items():
        file = out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, data)
    return sum(map(len, content.values()))


def _below(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    """Relative name → content of every file in a folder of the package."""
    found: dict[str, bytes] = {}
    for item in folder.iterdir():
        if item.is_dir():
            found |= _below(item, f"{prefix}{item.name}/")
        else:
            found[prefix + item.name] = item.read_bytes()
    return found
