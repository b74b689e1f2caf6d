"""Coverage-guided fuzzing of the readers, with atheris (libFuzzer): the files that reach new code are changed further.

    python tools/fuzz_guided.py [--seconds 600] [--only png,csv] [--corpus DIR]

Runs each reader of `fuzz_formats` so many seconds, from sound synthetic files, with the limits of `fuzz.py`: 10 seconds
for a file, and 2 GiB for the whole process. A finding ends the format's run and stands in DIR/findings. Python code of
braincam and of the format's library is instrumented; what is compiled (decoders, ONNX Runtime) is not. Needs the extra
`fuzz`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

INSTRUMENTED = {
    "png": ["braincam.images", "PIL.PngImagePlugin", "PIL.ImageFile"],
    "jpeg": ["braincam.images", "PIL.JpegImagePlugin", "PIL.MpoImagePlugin", "PIL.ImageFile"],
    "tiff": ["braincam.images", "PIL.TiffImagePlugin", "PIL.ImageFile"],
    "dicom": ["braincam.images", "pydicom"],
    "nifti": ["braincam.images", "nibabel", "gzip"],
    "csv": ["braincam.dataset", "csv"],
    "toml": ["braincam.training.config", "tomllib"],
    "onnx": ["braincam.model_file", "braincam.predict"],
    "safetensors": ["braincam.model_file"],
}
LONGEST = 20_000  # bytes of a file


def one(name: str, arguments: list[str]) -> None:
    """Fuzz one reader in this process, until libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED[name]):
        from fuzz import outcome_of
        from fuzz_formats import FORMATS

        import braincam.dataset.split
        import braincam.images.reader
        import braincam.model_file.card
        import braincam.predict  # noqa: F401 - all are imported here so that they are watched

        path = Path(tempfile.mkdtemp(prefix="braincam-fuzz-")) / f"file{FORMATS[name].ending}"
        path.write_bytes(FORMATS[name].seeds()[0])
        outcome_of(name, path)  # so that what it imports late is watched too

    def test(data: bytes) -> None:
        path.write_bytes(data)
        outcome, said = outcome_of(name, path)
        if outcome not in {"answered", "refused"}:
            raise RuntimeError(f"{outcome}: {said}")

    atheris.Setup([sys.argv[0], *arguments], test)
    atheris.Fuzz()


def write_seeds(name: str, folder: Path) -> None:
    """Sound files to begin with, the small ones."""
    from fuzz_formats import FORMATS

    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(dict.fromkeys(FORMATS[name].seeds())):
        if len(seed) <= LONGEST or not number:
            (folder / f"seed{number}").write_bytes(seed)


def main() -> int:
    """Every format in turn, each in a process of its own."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=600, help="for each format (default: 600)")
    options.add_argument("--only", default=",".join(INSTRUMENTED), help="formats, with commas between")
    options.add_argument(
        "--corpus", type=Path, default=Path("fuzz-corpus"), metavar="DIR", help="what is kept for next time"
    )
    options.add_argument("--one", help=argparse.SUPPRESS)
    chosen, rest = options.parse_known_args()
    if chosen.one:
        one(chosen.one, rest)
        return 0
    findings = chosen.corpus / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    found = 0
    for name in chosen.only.split(","):
        seeds = chosen.corpus / name
        write_seeds(name, seeds)
        limits = [f"-max_total_time={chosen.seconds}", "-timeout=10", "-rss_limit_mb=2048", f"-max_len={LONGEST}"]
        command = [sys.executable, __file__, "--one", name, *limits, f"-artifact_prefix={findings}/{name}-", str(seeds)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        runs = re.findall(r"#(\d+)\s", done.stderr)
        cover = re.findall(r"cov: (\d+)", done.stderr)
        found += done.returncode != 0
        state = "nothing found" if done.returncode == 0 else f"FOUND, see {findings}"
        print(
            f"{name:<12}{runs[-1] if runs else 0:>9} files, {cover[-1] if cover else 0:>5} places reached: {state}",
            flush=True,
        )
        if done.returncode:
            print("\n".join(done.stderr.splitlines()[-15:]), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
