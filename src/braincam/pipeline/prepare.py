"""A labelled folder → slices with groups, divided into parts that are checked for leaks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from braincam.dataset import split as splitting
from braincam.dataset.fingerprints import Unreadable
from braincam.dataset.groups import group
from braincam.dataset.links import Pairs
from braincam.dataset.manifest import Manifest, read_folder, read_rows
from braincam.dataset.origin import unsettled
from braincam.dataset.split import (
    Leak,
    Straddling,
    cut_validation,
    fill_in_hashes,
    fill_in_patients,
    find_leak,
    make_folds,
    read_split,
    verify,
    write_split,
)
from braincam.errors import DataError, SplitError
from braincam.files import as_path
from braincam.pipeline.reading import find_copies
from braincam.progress import say

FOLDS = 5  # without --split, the test part is fold 0 of five


@dataclass(frozen=True, eq=False)
class Grouped:
    """Readable slices, their bytes' hashes and the groups that must stay together."""

    manifest: Manifest
    digests: tuple[str, ...]
    groups: list[str]
    folds: list[int] | None  # where a split file gave them
    unreadable: list[Unreadable]
    twins: Pairs  # rows that are copies of each other, also where a split file puts them into different groups
    turned: Pairs  # the same of copies of which one lies upside down or turned by a quarter
    data_sha256: str  # of the folder as it was read, see `Manifest.digest`
    not_learnt: frozenset[str] = frozenset()  # paths of slices that are kept out of training and validation
    refused: frozenset[str] = frozenset()  # paths of slices whose like is to be refused: no examples of what to accept

    def accepts(self, row: int) -> bool:
        """Whether a slice is an example of what to accept."""
        return self.manifest.slices[row].path not in self.refused

    def leak(self, train: Sequence[int], test: Sequence[int]) -> Leak:
        """What some rows share with those that are learnt from."""
        patients = [item.patient for item in self.manifest.slices]
        return find_leak(train, test, patients, self.groups, self.twins, self.turned)

    def without_slices(self, rows: Iterable[int]) -> list[str]:
        """The classes of which no slice is among some rows, in order."""
        present = {self.manifest.slices[row].label for row in rows}
        return [name for name in self.manifest.classes if name not in present]

    def fold_digest(self) -> str:
        """A hash of what every slice holds, which group it is of, and into which fold it was put."""
        rows = zip(self.manifest.slices, self.digests, self.groups, self.folds or (), strict=True)
        text = "\n".join(f"{item.path}\t{digest}\t{name}\t{fold}" for item, digest, name, fold in rows)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Parts:
    """Rows of the manifest for each part, and how they came about."""

    train: list[int]
    validation: list[int]
    test: list[int]
    kind: str  # grouped, official, file
    leak: Leak
    fold: int | None
    validation_twins: int  # validation slices with a near copy in training: only where a split file tore them apart
    not_learnt: int  # slices of the other folds that were kept out of training and validation
    refused: int  # of the training and validation slices, those whose like is to be refused
    met_by_origin: int | None = (
        None  # test slices that the model which training begins with has met; None: there is none
    )

    def describe(self) -> dict[str, Any]:
        """What cards, reports and `run.json` say of the split."""
        return {
            "kind": self.kind,
            "fold": self.fold,
            "train_slices": len(self.train),
            "validation_slices": len(self.validation),
            "validation_with_twin_in_training": self.validation_twins,
            "not_learnt": self.not_learnt,
            "refused": self.refused,
            **asdict(self.leak),
            "leaks": self.leak.leaks,
            "verdict": str(self.leak),
            **self._of_origin(),
        }

    def _of_origin(self) -> dict[str, Any]:
        if self.met_by_origin is None:
            return {}
        met = f"the model that it begins with had met {self.met_by_origin or 'none'} of them"
        return {"seen_in_training": self.met_by_origin, "verdict": f"{self.leak}; {met}"}


def grouped(
    data: Path, patients: Path | None = None, split_file: Path | None = None, *, least_classes: int = 2
) -> Grouped:
    """Read a folder once and find its groups; a split file brings its own groups and leaves out what it does not name.

    Byte-identical files, and all slices of a patient (known, or by what DICOM files say), are always in one group, also
    where a split file says otherwise: that is how a leak shows, and it keeps patients whole when validation is cut from
    training.

    Raises:
        SplitError: the split file does not fit the folder, or says that a slice has other bytes.
    """
    manifest = read_folder(data, patients, least_classes=least_classes)
    folds = None
    groups: list[str] | None = None
    if split_file:
        manifest, groups, folds = read_split(split_file, manifest)
    copies = find_copies(manifest)
    readable, digests, twins, unreadable = copies.manifest, copies.digests, copies.twins, copies.unreadable
    known = [item.patient for item in readable.slices]
    for item in unreadable:
        say(f"left out: {item.reason}")
    if groups is not None and folds is not None:
        lost = {item.path for item in unreadable}
        keep = [row for row, item in enumerate(manifest.slices) if item.path not in lost]
        groups, folds = [groups[row] for row in keep], [folds[row] for row in keep]
        groups = merge_sharing(groups, digests)
        groups = merge_sharing(groups, known)
        groups = merge_sharing(groups, unsettled(known, copies.owners))
    else:
        groups = group(known, digests, twins, copies.owners)
    upright, turned = twins.pairs[~twins.turned], twins.pairs[twins.turned]
    return Grouped(readable, digests, groups, folds, unreadable, upright, turned, readable.digest())


def set_aside(found: Grouped, without: Path | None = None, refuse: Path | None = None) -> Grouped:
    """The same, with what two tables name in a column ``path`` set aside; tests keep all of it.

    Nothing is learnt from the slices of `without`. The labels of those of `refuse` are learnt, but they are no examples
    of what a model should accept.

    Raises:
        DataError: a path of a table is not in the folder.
    """
    return replace(
        found,
        not_learnt=named_in(without, found.manifest, "are kept out of training and validation"),
        refused=named_in(refuse, found.manifest, "are learnt, and their like is refused"),
    )


def named_in(table: Path | None, manifest: Manifest, fate: str) -> frozenset[str]:
    """Paths of the slices that a table names, and a line that says their fate; none without a table."""
    if table is None:
        return frozenset()
    named = read_rows(table, ("path",), manifest)
    if absent := [name for name in named if not (manifest.root / name).is_file()]:
        raise DataError(
            f"{table}: {absent[0]} is not in {manifest.root}; expected paths of that folder, as in the flags.csv of "
            "its audit"
        )
    paths = frozenset(item.path for item in manifest.slices) & named.keys()
    say(f"{table}: {len(paths)} slices {fate}")
    return paths


def digest_of(paths: frozenset[str]) -> str:
    """A hash of some paths; empty for none."""
    return hashlib.sha256("\n".join(sorted(paths)).encode()).hexdigest() if paths else ""


def merge_sharing(groups: Sequence[str], keys: Sequence[str | None]) -> list[str]:
    """Give slices of one key (bytes, patient), and with them their whole groups, one name; None is no key."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.get(name, name) != name:
            name = leader[name]
        return name

    first: dict[str, str] = {}
    for name, key in zip(groups, keys, strict=True):
        if key is None:
            continue
        a, b = find(name), find(first.setdefault(key, name))
        if a != b:
            leader[max(a, b)] = min(a, b)
    return [find(name) for name in groups]


def split(
    data: Path | str, out: Path | str, patients: Path | str | None = None, folds: int = FOLDS, seed: int = 0
) -> dict[str, Any]:
    """Write patient- and twin-safe folds of a labelled folder to a CSV, checked by an independent count.

    Raises:
        SplitError: `out` names no file, a class has too few groups, or (a defect) the folds leak.
    """
    check_names_file(out)  # first: finding the groups may take minutes
    found = grouped(Path(data), as_path(patients))
    labels = [item.label for item in found.manifest.slices]
    numbers = make_folds(labels, found.groups, folds, seed)
    for fold in range(folds):
        leak = leak_of_fold(found, numbers, fold)
        if leak.leaks or leak.turned_in_training:
            raise SplitError(f"fold {fold} leaks: {leak}; this is a defect of braincam, please report it")
    write_split(Path(out), found.manifest, found.groups, numbers, found.digests)
    return {
        "slices": len(labels),
        "groups": len(set(found.groups)),
        "patients": len({item.patient for item in found.manifest.slices} - {None}),
        "slices_without_patient": sum(item.patient is None for item in found.manifest.slices),
        "largest_group": max(Counter(found.groups).values()),
        "folds": {str(fold): numbers.count(fold) for fold in range(folds)},
        "class_shares": {str(fold): shares for fold, shares in splitting.class_shares(labels, numbers).items()},
        "unreadable": len(found.unreadable),
        "out": str(out),
    }


def check_names_file(out: Path | str) -> None:
    """The folds go into one file; a folder is a likely slip, since most verbs take one.

    Raises:
        SplitError: it is a folder, or no name at all.
    """
    path = Path(out)
    if path.is_dir() or not path.name:
        example = path / "folds.csv"
        raise SplitError(f"--out {path}: expected a file to write the folds to, got a folder; give {example}, say")


def check_split(data: Path, table: Path, patients: Path | None = None) -> tuple[Manifest, Straddling]:
    """Check any table of columns ``path,fold`` against patients and pixels, whatever groups it names.

    A column ``patient``, where there is one, fills in patients that are not known otherwise; a column ``sha256`` says
    which bytes each slice must have.

    Raises:
        SplitError: a path of the table is not in the folder, a slice has no fold, or it has other bytes.
    """
    manifest = read_folder(data, patients)
    rows = read_rows(table, ("path", "fold"), manifest)
    known = {item.path for item in manifest.slices}
    if absent := [name for name in rows if name not in known]:
        raise SplitError(f"{table}: {absent[0]} is not in {manifest.root}; expected a table made for this folder")
    fold_of = {name: row["fold"].strip() for name, row in rows.items()}  # of hands and spreadsheets: "0 " is fold 0
    if empty := [name for name, fold in fold_of.items() if not fold]:
        raise SplitError(f"{table}: {empty[0]}: expected a fold, got nothing")
    named = manifest.keep(row for row, item in enumerate(manifest.slices) if item.path in rows)
    copies = find_copies(fill_in_hashes(fill_in_patients(named, rows, table), rows, table))
    for item in copies.unreadable:
        say(f"left out: {item.reason}")
    slices = copies.manifest.slices
    names = sorted(set(fold_of.values()))
    folds = [names.index(fold_of[item.path]) for item in slices]
    patients_known = [item.patient for item in slices]
    found = verify(folds, patients_known, copies.twins.pairs, copies.twins.turned)
    by_files = verify(folds, unsettled(patients_known, copies.owners), np.empty((0, 2), np.int64)).patients
    torn = (f"that of {slices[row].path}" for row in sorted(map(int, by_files)))  # never by an identifier
    return copies.manifest, replace(found, patients=(*found.patients, *torn))


def leak_of_fold(found: Grouped, folds: Sequence[int], fold: int) -> Leak:
    """What fold `fold` shares with the others."""
    test = [row for row, number in enumerate(folds) if number == fold]
    rest = [row for row, number in enumerate(folds) if number != fold]
    return found.leak(rest, test)


def divide(
    found: Grouped, kind: str, fold: int, validation_share: float, seed: int, *, allow_leak: bool = False
) -> Parts:
    """Cut the slices into training, validation and test rows.

    `kind` is "grouped" (fold `fold` of five safe folds), "official" (Testing/ is the test) or "file" (fold `fold` of
    the split file). Validation is cut by group from what is left; `seed` decides that cut alone, so that models of
    several seeds are judged on the same test. What is not to be learnt from (`set_aside`) stands in the test alone.

    Raises:
        SplitError: the folder has no official split, the fold does not exist, or a split file leaks unasked.
        DataError: nothing is left to learn from, or no slice of some class.
    """
    manifest = found.manifest
    labels = [item.label for item in manifest.slices]
    rows = range(len(labels))
    if kind == "official":
        if not manifest.has_official_split:
            raise SplitError(
                f"{manifest.root}: split=official expects Training/ and Testing/ folders, got neither or only one; "
                "leave split at grouped"
            )
        test = [row for row in rows if manifest.slices[row].part == "Testing"]
    else:
        folds = found.folds if kind == "file" else make_folds(labels, found.groups, FOLDS, 0)
        if folds is None:
            raise SplitError("a split by file needs --split FILE.csv")
        if fold not in folds:
            raise SplitError(f"fold {fold}: expected one of {', '.join(map(str, sorted(set(folds))))}")
        test = [row for row in rows if folds[row] == fold]
    held_out = set(test)
    rest = [row for row in rows if row not in held_out]
    if not rest:
        raise SplitError(f"fold {fold} holds every slice: expected others to learn from; give a table of several folds")
    learnt = [row for row in rest if manifest.slices[row].path not in found.not_learnt]
    if not learnt:
        raise DataError(
            f"{manifest.root}: every slice is kept out of training; expected a table that names some of them"
        )
    leak = found.leak(learnt, test)
    if kind == "file" and leak.leaks and not allow_leak:
        raise SplitError(
            f"the split leaks: {leak}; make a safe one with `braincam split`, or say --allow-leak to train anyway "
            "and have the leak printed beside the score"
        )
    train, validation = cut_validation(labels, found.groups, learnt, validation_share, seed)
    twins = found.leak(train, validation).with_twin_in_training
    parts = Parts(
        train, validation, test, kind, leak, None if kind == "official" else fold, twins,
        not_learnt=len(rest) - len(learnt), refused=sum(not found.accepts(row) for row in learnt),
    )  # fmt: skip
    check_filled(found, parts)
    return parts


def check_filled(found: Grouped, parts: Parts) -> None:
    """Every class must stand in every part, and not to be refused alone, or nothing can be learned or said about it."""
    root = found.manifest.root
    for part, rows in (("training", parts.train), ("validation", parts.validation), ("test", parts.test)):
        if absent := found.without_slices(rows):
            raise DataError(
                f"{root}: the {part} part has no slice of class {absent[0]}; expected at least one; "
                "add patients of that class or choose other folds"
            )
        if part != "test" and (absent := found.without_slices(filter(found.accepts, rows))):
            raise DataError(
                f"{root}: all {part} slices of class {absent[0]} are to be refused; expected some that "
                "show what to accept; name fewer with --refuse"
            )
