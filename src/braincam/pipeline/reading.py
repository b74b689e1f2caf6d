"""Which slices of a folder can be read and which are twins: searched once, remembered between runs."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from braincam.cache import cached, forget, key_of
from braincam.dataset.fingerprints import Unreadable, changed, fingerprint, read_one_slice
from braincam.dataset.manifest import Manifest
from braincam.dataset.origin import owners
from braincam.dataset.twins import KINDS, Twins, find_twins
from braincam.errors import DataError, ImageError, SplitError
from braincam.progress import track


@dataclass(frozen=True, eq=False)
class Copies:
    """The readable slices of a folder and which of them are copies of each other."""

    manifest: Manifest  # readable slices only
    digests: tuple[str, ...]  # SHA-256 of each one's bytes
    twins: Twins
    unreadable: list[Unreadable]
    owners: list[int]  # for each slice the first one of the same DICOM patient or series, see `origin.owners`


def find_copies(manifest: Manifest) -> Copies:
    """Read every slice and search for twins, or recall what an earlier search found among the same files.

    Raises:
        DataError: no slice can be read.
        SplitError: a slice's bytes are not those that a table of folds says it has.
    """
    digests = hash_files(manifest)
    check_as_split(manifest, digests)
    fresh: list[Copies] = []

    def make(folder: Path) -> None:
        fresh.append(search(manifest))
        check_unchanged(manifest, digests, fresh[0])
        keep(fresh[0], manifest, folder)

    key = key_of([*made_by("images", "dataset"), *digests])
    entry = cached("twins", key, make)
    if fresh:
        return fresh[0]
    readable = entry["readable"]
    unreadable = [why_unreadable(manifest, row) for row in np.flatnonzero(~readable).tolist()]
    if None in unreadable:  # a passing trouble of the disk or the memory, or a decoder that has been installed since
        forget("twins", key)
        return search(manifest)
    return Copies(
        manifest.keep(np.flatnonzero(readable).tolist()),
        tuple(digest for digest, good in zip(digests, readable, strict=True) if good),
        Twins(
            entry["pairs"], tuple(KINDS[code] for code in entry["kinds"].tolist()), entry["similarity"], entry["alike"]
        ),
        [item for item in unreadable if item is not None],
        entry["owners"].tolist(),
    )


def check_as_split(manifest: Manifest, digests: Sequence[str]) -> None:
    """Slices of which a table of folds gives the hash must be those slices: folds cut for others may leak.

    Raises:
        SplitError: names the first slice with other bytes, and says how many there are.
    """
    pairs = list(zip(manifest.slices, digests, strict=True))
    differ = [(item, digest) for item, digest in pairs if item.sha256 not in (None, digest)]
    if differ:
        item, digest = differ[0]
        raise SplitError(
            f"{manifest.root / item.path}: not the file that the folds were made for (so {len(differ)} of {len(pairs)} "
            f"slices): expected sha256 {item.sha256}, got {digest}; restore the files, or make new folds with "
            "`braincam split`"
        )


def check_unchanged(manifest: Manifest, before: Sequence[str], copies: Copies) -> None:
    """What is remembered of some bytes must have been found in them.

    Raises:
        DataError: a file was changed between its hashing and its reading.
    """
    hashed = {item.path: digest for item, digest in zip(manifest.slices, before, strict=True)}
    for item, digest in zip(copies.manifest.slices, copies.digests, strict=True):
        if hashed[item.path] != digest:
            raise DataError(changed(manifest.root / item.path))


def search(manifest: Manifest) -> Copies:
    """Read every slice and compare them."""
    readable, prints, unreadable = fingerprint(manifest)
    return Copies(readable, prints.digests, find_twins(prints), unreadable, owners(prints.origins))


def keep(copies: Copies, manifest: Manifest, folder: Path) -> None:
    """Write what `find_copies` needs to recall a search, one array per file; slices by their row in `manifest`."""
    lost = {item.path for item in copies.unreadable}
    twins = copies.twins
    arrays = {
        "readable": np.array([item.path not in lost for item in manifest.slices]),
        "pairs": twins.pairs,
        "kinds": np.array([KINDS.index(kind) for kind in twins.kinds], np.uint8),
        "similarity": twins.similarity,
        "alike": twins.alike,
        "owners": np.array(copies.owners, np.int64),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def hash_files(manifest: Manifest) -> list[str]:
    """SHA-256 of each file's bytes; of one that cannot be opened, why."""

    def one(row: int) -> str:
        try:
            with manifest.file(row).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"{manifest.slices[row].path}: {error.strerror}"

    with ThreadPoolExecutor() as pool:
        return list(track(pool.map(one, range(len(manifest.slices))), "hashing", len(manifest.slices), "slices"))


def why_unreadable(manifest: Manifest, row: int) -> Unreadable | None:
    """The reader's own words on a slice that it refused before; None where it no longer does."""
    try:
        read_one_slice(manifest.file(row))
    except ImageError as error:
        return Unreadable(manifest.slices[row].path, str(error))
    return None


def made_by(*parts: str, libraries: Sequence[str] = ("numpy", "pillow", "scipy", "pydicom", "nibabel")) -> list[str]:
    """What a remembered result depends on besides its input: our code and the libraries' versions.

    `parts` are folders of the package, or single files.
    """
    places = [files("braincam") / part for part in parts]
    code = [
        item.read_text(encoding="utf-8")
        for place in places
        for item in ([place] if place.is_file() else sorted(place.iterdir(), key=lambda item: item.name))
        if item.name.endswith(".py")
    ]
    return [*code, *(f"{name} {importlib.metadata.version(name)}" for name in libraries)]
