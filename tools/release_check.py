"""Is what would be released whole? Build it, install it into an empty environment, and use it there.

    python tools/release_check.py [--out dist] [--tag v0.1.0]

Compares version, changelog and tag, builds sdist and wheel, checks their metadata, looks into the wheel, installs it
alone into a fresh virtual environment, asks it about a slice there without torch, and writes a bill of materials
(CycloneDX) of that environment. Prints one line per check; the exit code says whether all passed. Needs the extra
`release`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from release_notes import NotesError, notes, version_of

ROOT = Path(__file__).parents[1]
IN_THE_WHEEL = (
    "braincam/models/default.onnx",
    "braincam/models/default.safetensors",
    "braincam/training/configs/default.toml",
    "braincam/training/configs/specification.toml",
    "braincam/report/templates/run.html",
    "braincam/serve/page/index.html",
    "braincam/page/local/local.js",
    "braincam/py.typed",
)
NOT_IN_THE_WHEEL = ("tests/", "benchmarks/", ".venv", "shared")
MEGABYTE = 1e6
INSTALLED_LIMIT = 260  # MB of site-packages, without the extras


class CheckFailedError(Exception):
    """A check did not hold; the text says what was found."""


def run(*command: str | Path, **how: object) -> str:
    """What a command prints; its errors are the failure's text."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **how)  # type: ignore[call-overload]
    if done.returncode:
        raise CheckFailedError(
            f"{Path(str(command[0])).name} ended with {done.returncode}: {done.stderr.strip()[-800:]}"
        )
    return str(done.stdout)


def expect(holds: bool, otherwise: str) -> None:
    """Fail with a text unless something holds."""
    if not holds:
        raise CheckFailedError(otherwise)


def one_version(tag: str | None) -> str:
    """The tag, the project and the changelog are of one version."""
    project, changelog = ((ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "CHANGELOG.md"))
    try:
        text = notes(project, changelog, tag)
    except NotesError as error:
        raise CheckFailedError(str(error)) from error
    return f"{tag or version_of(project)}, {len(text.splitlines())} lines of release notes"


def build(out: Path) -> str:
    """The wheel is built from the sdist, so both are proven."""
    run(sys.executable, "-m", "build", "--outdir", out, ROOT)
    return ", ".join(f"{file.name} {file.stat().st_size / MEGABYTE:.1f} MB" for file in sorted(out.iterdir()))


def metadata(out: Path) -> str:
    """What an index would refuse or show wrongly."""
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(out.glob("braincam-*")))
    return "twine check --strict"


def contents(wheel: Path) -> str:
    """The wheel carries the model, the recipes and the templates, and nothing that is not the package's."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in IN_THE_WHEEL if name not in names]
    strange = [name for name in names if any(part in name for part in NOT_IN_THE_WHEEL)]
    expect(not missing, f"missing: {', '.join(missing)}")
    expect(not strange, f"does not belong there: {', '.join(strange[:5])}")
    return f"{len(names)} files"


def install(wheel: Path, environment: Path) -> str:
    """The wheel and what it asks for, into an empty environment."""
    venv.create(environment, with_pip=True)
    before = size(environment)
    run(program(environment, "python"), "-m", "pip", "install", "--quiet", wheel)
    grown = (size(environment) - before) / MEGABYTE
    expect(grown <= INSTALLED_LIMIT, f"{grown:.0f} MB; expected at most {INSTALLED_LIMIT}")
    return f"{grown:.0f} MB with all it needs"


def answers(environment: Path, work: Path) -> str:
    """The packaged model answers there, and torch is not needed."""
    scan = work / "scan.png"
    rows, columns = np.mgrid[-1:1:224j, -1:1:224j]
    head = np.where((rows / 0.8) ** 2 + (columns / 0.65) ** 2 < 1, 110, 0)
    Image.fromarray(head.astype(np.uint8)).save(scan)
    command = program(environment, "braincam")
    version = run(command, "--version", cwd=work).strip()
    models = json.loads(run(command, "models", "--format", "json", cwd=work))
    expect(any(model["default"] for model in models), "braincam models names no default model")
    (answer,) = run(command, "predict", scan, "--format", "json", cwd=work).splitlines()
    status = json.loads(answer)["status"]
    expect(status in {"ok", "refer", "rejected"}, f"braincam predict: status {status}")
    run(
        program(environment, "python"),
        "-c",
        "import braincam, importlib.util as u; assert u.find_spec('torch') is None",
    )
    return f"{version}; a drawn head: {status}"


def bill_of_materials(environment: Path, out: Path) -> str:
    """Every installed library with version and licence."""
    file = out / "sbom.json"
    python = program(environment, "python")
    run(sys.executable, "-m", "cyclonedx_py", "environment", "--output-format", "JSON", "--output-file", file, python)
    parts = json.loads(file.read_text(encoding="utf-8")).get("components", [])
    expect(len(parts) > 5, f"only {len(parts)} components in {file}")
    return f"{file}: {len(parts)} components"


def program(environment: Path, name: str) -> Path:
    """A program of a virtual environment, on any system."""
    return environment / ("Scripts" if sys.platform == "win32" else "bin") / name


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def main() -> int:
    """Run the checks in order; what stands on a failed one is not tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--tag", help="the tag that is released; it must be the version")
    chosen = parser.parse_args()
    out: Path = chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("braincam-*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as temporary:
        work, environment = Path(temporary), Path(temporary) / "venv"

        def wheel() -> Path:
            (found,) = out.glob("braincam-*.whl")
            return found

        checks: dict[str, Callable[[], str]] = {
            "one version": lambda: one_version(chosen.tag),
            "built": lambda: build(out),
            "metadata": lambda: metadata(out),
            "contents of the wheel": lambda: contents(wheel()),
            "installs alone": lambda: install(wheel(), environment),
            "answers without torch": lambda: answers(environment, work),
            "bill of materials": lambda: bill_of_materials(environment, out),
        }
        for name, check in checks.items():
            try:
                print(f"{name:24} passed   {check()}", flush=True)
            except CheckFailedError as failure:
                print(f"{name:24} FAILED   {failure}", flush=True)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
