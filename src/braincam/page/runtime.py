"""onnxruntime-web, which runs the model in a browser: from npm when a page is made, checked, and kept."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path
from shutil import which

from braincam.cache import cache_folder
from braincam.errors import ConfigError, MissingDependencyError
from braincam.files import write_bytes
from braincam.progress import say

VERSION = "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # SHA-512, npm's
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
FILES = {  # of its folder dist, with the SHA-256 of each
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
NPM_SECONDS = 300


def runtime_files(given: Path | None = None) -> dict[str, bytes]:
    """Name → content of the files that a page needs.

    `given` is the package as npm packs it, or a folder that holds the files or the package. Without it the package is
    taken from the cache, else fetched with npm and kept there.

    Raises:
        ConfigError: the package is not the one that is expected, or `given` holds none.
        MissingDependencyError: there is no npm, or it cannot fetch the package.
    """
    if given is not None:
        return _brought(given)
    folder = cache_folder()
    kept = None if folder is None else folder / PACKAGE
    if kept is not None and kept.is_file():
        return _unpacked(kept.read_bytes(), kept)
    content = _from_npm()
    found = _unpacked(content, Path(PACKAGE))
    if kept is not None:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(kept, content)
        except OSError as error:
            say(f"{kept}: cannot be kept ({error.strerror}); onnxruntime-web is fetched again next time")
    return found


def _brought(given: Path) -> dict[str, bytes]:
    """From a package, or a folder with the package or its files."""
    for folder in (given, given / "dist"):
        if all((folder / name).is_file() for name in FILES):
            return {name: _checked(folder / name) for name in FILES}
    package = given / PACKAGE if given.is_dir() else given
    if not package.is_file():
        raise ConfigError(
            f"--runtime {given}: expected {PACKAGE}, or a folder with it or with {', '.join(FILES)}; "
            f"`npm pack onnxruntime-web@{VERSION}` writes the package on a machine with internet"
        )
    return _unpacked(package.read_bytes(), package)


def _checked(file: Path) -> bytes:
    """The content of one of the files, which must be that of the package."""
    content = file.read_bytes()
    expected, got = FILES[file.name], hashlib.sha256(content).hexdigest()
    if got != expected:
        raise ConfigError(
            f"{file}: expected that of onnxruntime-web {VERSION} with sha256 {expected[:12]}..., got {got[:12]}...; "
            f"get it again: npm pack onnxruntime-web@{VERSION}"
        )
    return content


def _unpacked(package: bytes, where: Path) -> dict[str, bytes]:
    got = base64.b64encode(hashlib.sha512(package).digest()).decode()
    if got != INTEGRITY:
        raise ConfigError(
            f"{where}: expected {PACKAGE} with sha512-{INTEGRITY[:12]}..., got sha512-{got[:12]}...; remove it and "
            f"get it again: npm pack onnxruntime-web@{VERSION}"
        )
    found = {}
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None, "the package is the one whose hash is known"
            found[name] = member.read()
    return found


def _from_npm() -> bytes:
    npm = which("npm")
    advice = (
        f"install Node.js, or bring {PACKAGE} from another machine (npm pack onnxruntime-web@{VERSION}) and give it "
        "with --runtime"
    )
    if npm is None:
        raise MissingDependencyError(
            f"the page runs on onnxruntime-web, which npm fetches, and npm is missing; {advice}"
        )
    say(f"fetching onnxruntime-web {VERSION} with npm, once (26 MB)")
    with tempfile.TemporaryDirectory() as folder:
        call = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent"]
        try:
            done = subprocess.run(call, cwd=folder, capture_output=True, timeout=NPM_SECONDS, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise MissingDependencyError(f"npm gave no onnxruntime-web in {NPM_SECONDS} seconds; {advice}") from error
        file = Path(folder) / PACKAGE
        if done.returncode or not file.is_file():
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            raise MissingDependencyError(
                f"npm could not fetch onnxruntime-web@{VERSION} ({said[-1] if said else 'no reason given'}); {advice}"
            )
        return file.read_bytes()
