"""Folds and parts that no patient and no group of twins straddles, and the check that proves it.

`verify` is that check: it looks at patients and pixels alone and takes any table of folds, whoever made it. Rows of the
tables written here have the columns ``path,label,patient,group,fold,sha256``; the last is of the file's bytes, and
tables from elsewhere need not have it.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from braincam.dataset.links import connected
from braincam.dataset.manifest import Manifest, class_name, known_name, read_rows
from braincam.errors import SplitError
from braincam.files import write_csv
from braincam.progress import say

TOLERATED_TWINS = 0.02  # of the test slices: what a careful grouping by hand may miss; always counted and said
MOST_FOLDS = 20  # of which some are taken for validation, unless less than one of so many is asked for
TRIES = 20  # seeds that are tried for folds that each hold every class
MOST_DIGITS = 9  # of a fold's number
COLUMNS = ("path", "label", "patient", "group", "fold")  # that a table must have; one written here has HASH too
HASH = "sha256"


@dataclass(frozen=True)
class Leak:
    """How much of a test part the training part has already seen."""

    test_slices: int
    with_known_patient: int
    with_patient_in_training: int
    with_group_in_training: int  # same patient or a twin, the wider net
    with_twin_in_training: int  # a copy found by its pixels, whatever the groups say
    chained_to_training: int = 0  # by a twin, or a twin's twin: of many copies the search lists the nearest alone
    turned_in_training: int = 0  # more of them: those that only a copy upside down or turned by a quarter connects

    @property
    def leaks(self) -> bool:
        """Whether any patient or group straddles the border, or more than a fiftieth of the slices have twins there.

        A few copies that a hand-made or older grouping missed are said, and do not void it. They are judged by the
        pairs that the search lists; chains of copies, which may drift apart, are said beside them. So are turned
        copies, which few searches heed: fixed folds that others score on too must stay usable.
        """
        return bool(
            self.with_patient_in_training
            or self.with_group_in_training
            or self.with_twin_in_training > TOLERATED_TWINS * self.test_slices
        )

    def __str__(self) -> str:
        chained = f", {self.chained_to_training} with copies of copies"
        copies = f"{self.with_twin_in_training} have a near copy there"
        more = chained * (self.chained_to_training > self.with_twin_in_training)
        lies = "lies" if self.turned_in_training == 1 else "lie"
        turned = f"; {self.turned_in_training} more {lies} there upside down or turned, as copies"
        turned *= bool(self.turned_in_training)
        if not self.leaks:
            few = f"; {copies} all the same{more}" * bool(self.with_twin_in_training) + turned
            unknown = self.test_slices - self.with_known_patient
            unsure = f"; patients are unknown for {unknown} of them" * bool(unknown)
            return f"no known patient and no group of the {self.test_slices} test slices is in training{few}{unsure}"
        patients = (
            f"{self.with_patient_in_training} of the {self.with_known_patient} test slices with a known "
            "patient have that patient in training; "
            if self.with_known_patient
            else "patients are unknown; "
        )
        return (
            f"{patients}{self.with_group_in_training} of {self.test_slices} test slices share a patient or a "
            f"twin group with training; {copies}{more}{turned}"
        )


def make_folds(labels: Sequence[str], groups: Sequence[str], folds: int, seed: int) -> list[int]:
    """Fold number of each slice: stratified by class, whole groups only, every class in every fold.

    The same for the same seed. Where stratifying leaves a class out of a fold, small groups are moved; where groups of
    several classes get in the way of that, further seeds are tried.

    Raises:
        SplitError: a class has fewer groups than there are folds, no folds were found that each hold every class, or
            the seed is out of range.
    """
    for attempt in _attempts(labels, groups, folds, seed):
        numbers = _complete(labels, groups, attempt, folds)
        if not (absent := _absent(labels, numbers, folds)):
            return numbers
    raise SplitError(
        f"class {absent[0][1]}: expected folds that each hold slices of it, found no such {folds} folds, since "
        "patients or groups of twins have slices of several classes; add patients of that class or use fewer folds"
    )


def _attempts(labels: Sequence[str], groups: Sequence[str], folds: int, seed: int) -> Iterator[list[int]]:
    """Folds by stratifying alone: those of the seed, then of the seeds after it. Raises SplitError."""
    _check_folds(labels, groups, folds, seed)
    for number in range(TRIES):
        yield _stratified(labels, groups, folds, (seed + number) % 2**32)


def _check_folds(labels: Sequence[str], groups: Sequence[str], folds: int, seed: int) -> None:
    """Refuse what no division can give, and say so."""
    if not 0 <= seed < 2**32:
        raise SplitError(f"seed: expected 0 or more and less than 2^32, got {seed}")
    groups_of: dict[str, set[str]] = defaultdict(set)
    for label, name in zip(labels, groups, strict=True):
        groups_of[label].add(name)
    if folds < 2:
        raise SplitError(f"folds: expected at least 2, got {folds}")
    for label, names in sorted(groups_of.items()):
        if len(names) < folds:
            raise SplitError(
                f"class {label} is too small to split: expected at least {folds} patients or groups of twins, "
                f"got {len(names)}; add patients or use fewer folds"
            )


def _stratified(labels: Sequence[str], groups: Sequence[str], folds: int, seed: int) -> list[int]:
    """Folds of whole groups, as even in size and classes as a greedy search gets them; some may lack a class."""
    fold = np.full(len(labels), -1)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        fold[held_out] = number
    return [int(number) for number in fold]


def _absent(labels: Sequence[str], numbers: Sequence[int], folds: int) -> list[tuple[int, str]]:
    """The folds that lack a class, each with that class, in order."""
    present = set(zip(numbers, labels, strict=True))
    return [(fold, label) for fold in range(folds) for label in sorted(set(labels)) if (fold, label) not in present]


def _complete(labels: Sequence[str], groups: Sequence[str], numbers: Sequence[int], folds: int) -> list[int]:
    """The folds with the smallest groups moved that give each fold its classes; as they are where none is absent.

    A group moves only where the fold it leaves keeps all its classes, so every move brings the end nearer. It may be
    that none can: then some class stays absent.
    """
    size, where = Counter(groups), dict(zip(groups, numbers, strict=True))
    holds: dict[str, set[str]] = defaultdict(set)
    for name, label in zip(groups, labels, strict=True):
        holds[name].add(label)
    having = Counter((fold, label) for name, fold in where.items() for label in holds[name])
    for fold, label in _absent(labels, numbers, folds):
        spare = [
            name
            for name, there in where.items()
            if label in holds[name] and all(having[there, each] > 1 for each in holds[name])
        ]
        if having[fold, label] or not spare:  # an earlier move may have brought it along
            continue
        moved = min(spare, key=lambda name: (size[name], name))
        having.subtract((where[moved], each) for each in holds[moved])
        having.update((fold, each) for each in holds[moved])
        where[moved] = fold
    return [where[name] for name in groups]


def cut_validation(
    labels: Sequence[str], groups: Sequence[str], rows: Sequence[int], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Divide `rows` into training and validation rows by whole groups, about `share` of each class to validation.

    Every class is in both.

    Raises:
        SplitError: a class has one group alone, or no division was found that gives both every class.
    """
    most = 1 - 1 / MOST_FOLDS  # something is left to train on
    fraction = Fraction(min(share, most)).limit_denominator(max(MOST_FOLDS, math.ceil(1 / share)))
    picked_labels, picked_groups = [labels[row] for row in rows], [groups[row] for row in rows]
    fewest = min(
        (len({g for label, g in zip(picked_labels, picked_groups, strict=True) if label == name}), name)
        for name in set(picked_labels)
    )
    if fewest[0] < 2:
        raise SplitError(
            f"class {fewest[1]} is too small to cut validation from training: expected at least 2 patients or groups "
            "of twins outside the test part, got 1; add patients of that class"
        )
    folds = min(fraction.denominator, fewest[0])
    taken = min(max(1, round(share * folds)), folds - 1)
    for numbers in _attempts(picked_labels, picked_groups, folds, seed):
        if not _absent(picked_labels, [int(fold < taken) for fold in numbers], 2):  # single folds may lack a class
            break
    else:
        try:
            numbers = make_folds(picked_labels, picked_groups, folds, seed)
        except SplitError as error:
            raise SplitError(f"validation cannot be cut from training: {error}") from error
    train = [row for row, number in zip(rows, numbers, strict=True) if number >= taken]
    validation = [row for row, number in zip(rows, numbers, strict=True) if number < taken]
    return train, validation


def find_leak(
    train: Sequence[int],
    test: Sequence[int],
    patients: Sequence[str | None],
    groups: Sequence[str],
    twins: npt.NDArray[np.int64],
    turned: npt.NDArray[np.int64] | None = None,
) -> Leak:
    """Count the test rows whose patient, group or twin (pairs of rows, (M, 2)) also stands among the training rows.

    Validation rows count as training rows: the best epoch is chosen on them. `turned` are twins of which one lies
    turned, which are counted apart.
    """
    patients_in = {patients[row] for row in train} - {None}
    groups_in = {groups[row] for row in train}
    chained = _chained(train, test, connected(len(groups), twins))
    everyhow = twins if turned is None else np.concatenate((twins, turned))
    return Leak(
        test_slices=len(test),
        with_known_patient=sum(patients[row] is not None for row in test),
        with_patient_in_training=sum(patients[row] in patients_in for row in test),
        with_group_in_training=sum(groups[row] in groups_in for row in test),
        with_twin_in_training=len(_twins_across(train, test, twins)),
        chained_to_training=chained,
        turned_in_training=_chained(train, test, connected(len(groups), everyhow)) - chained,
    )


def _chained(train: Sequence[int], test: Sequence[int], cluster: npt.NDArray[np.int32]) -> int:
    """How many test rows have a training row in their cluster."""
    return int(np.isin(cluster[list(test)], cluster[list(train)]).sum())


def _twins_across(train: Sequence[int], test: Sequence[int], twins: npt.NDArray[np.int64]) -> set[int]:
    """Test rows with a twin among the training rows."""
    trained, tested = set(train), set(test)
    both_ways = [*twins.tolist(), *twins[:, ::-1].tolist()]
    return {a for a, b in both_ways if a in tested and b in trained}


@dataclass(frozen=True)
class Straddling:
    """What a table of folds tears apart: found from patients and pixels, never from the groups that it names."""

    slices: int
    folds: int
    patients: tuple[str, ...]  # known patients with slices in more than one fold
    twins: tuple[tuple[int, int], ...]  # rows of copies in different folds, as far as the search lists them
    copies: int = 0  # slices with a copy, or a copy's copy, in another fold
    turned: int = 0  # of `twins`, those of which one lies upside down or turned by a quarter

    @property
    def leaks(self) -> bool:
        """Whether anything straddles a border."""
        return bool(self.patients or self.twins)


def verify(
    folds: Sequence[int],
    patients: Sequence[str | None],
    twins: npt.NDArray[np.int64],
    turned: npt.NDArray[np.bool_] | None = None,
) -> Straddling:
    """Check folds (N,) from anywhere: which patients and which pairs of twins (M, 2) lie in more than one.

    `turned` (M,) says of which pairs one slice lies turned.
    """
    fold_of = np.asarray(folds)
    torn = fold_of[twins[:, 0]] != fold_of[twins[:, 1]]
    folds_of: dict[str, set[int]] = defaultdict(set)
    for patient, fold in zip(patients, folds, strict=True):
        if patient is not None:
            folds_of[patient].add(fold)
    folds_with: dict[int, set[int]] = defaultdict(set)
    clusters = connected(len(folds), twins).tolist()
    for cluster, fold in zip(clusters, folds, strict=True):
        folds_with[cluster].add(fold)
    return Straddling(
        slices=len(folds),
        folds=len(set(folds)),
        patients=tuple(sorted(patient for patient, where in folds_of.items() if len(where) > 1)),
        twins=tuple((a, b) for a, b in twins[torn].tolist()),
        copies=sum(len(folds_with[cluster]) > 1 for cluster in clusters),
        turned=0 if turned is None else int(turned[torn].sum()),
    )


def write_split(
    path: Path,
    manifest: Manifest,
    groups: Sequence[str],
    folds: Sequence[int],
    digests: Sequence[str] | None = None,
) -> None:
    """Write the portable CSV: relative paths, one row per slice, with `digests` the SHA-256 of each one's bytes."""
    hashes = [""] * len(manifest.slices) if digests is None else digests
    rows = zip(manifest.slices, groups, folds, hashes, strict=True)
    write_csv(
        path,
        (*COLUMNS, HASH),
        ((item.path, item.label, item.patient or "", name, fold, digest) for item, name, fold, digest in rows),
    )


def read_split(path: Path, manifest: Manifest) -> tuple[Manifest, list[str], list[int]]:
    """Read a split for a folder: the manifest's rows that the split names, with their groups and folds.

    Patients named in the split fill in those the manifest does not know. Slices that the split leaves out are left out.
    Hashes are kept with the slices; whoever reads the files compares (`pipeline.reading.find_copies`).

    Raises:
        SplitError: a path of the split is not in the folder, a label differs, a fold is no whole number, or a hash is
            no SHA-256.
    """
    rows = read_rows(path, COLUMNS, manifest)
    position = {item.path: number for number, item in enumerate(manifest.slices)}
    if absent := [name for name in rows if name not in position]:
        raise SplitError(
            f"{path}: {len(absent)} of its {len(rows)} slices are not in {manifest.root}, such as {absent[0]}; "
            "expected a split made for this folder"
        )
    if left_out := [item.path for item in manifest.slices if item.path not in rows]:
        say(
            f"{path}: leaves out {len(left_out)} of the {len(manifest.slices)} slices in {manifest.root}, such as "
            f"{left_out[0]}: they are neither learnt nor judged"
        )
    kept, groups, folds = [], [], []
    for item in manifest.slices:
        row = rows.get(item.path)
        if row is None:
            continue
        if class_name(row["label"]) != item.label:
            raise SplitError(f"{path}: {item.path} is labelled {row['label']}, but its folder says {item.label}")
        if not row["fold"].isdecimal() or len(row["fold"]) > MOST_DIGITS:
            raise SplitError(f"{path}: {item.path}: expected a fold number from 0, got {row['fold']!r}")
        kept.append(position[item.path])
        groups.append(row["group"] or item.path)
        folds.append(int(row["fold"]))
    return fill_in_hashes(fill_in_patients(manifest.keep(kept), rows, path), rows, path), groups, folds


def fill_in_patients(manifest: Manifest, rows: Mapping[str, Mapping[str, str]], table: Path) -> Manifest:
    """Patients that a table of folds names, where they are not known otherwise; `rows` by path, one for each slice.

    A table of patients goes first: it may have been corrected since the folds were made.
    """
    named = [known_name(rows[item.path].get("patient") or "") for item in manifest.slices]
    both = list(zip(manifest.slices, named, strict=True))
    differ = sum(item.patient is not None and name not in (None, item.patient) for item, name in both)
    if differ:
        say(f"{table}: names another patient than the table of patients for {differ} slices; the latter counts")
    return replace(manifest, slices=tuple(replace(item, patient=item.patient or name) for item, name in both))


def fill_in_hashes(manifest: Manifest, rows: Mapping[str, Mapping[str, str]], table: Path) -> Manifest:
    """What a table of folds says of the bytes of each slice; no such column, or an empty cell, is unknown.

    Raises:
        SplitError: a hash is no SHA-256.
    """
    said = [(rows[item.path].get(HASH) or "").strip().lower() or None for item in manifest.slices]
    for item, digest in zip(manifest.slices, said, strict=True):
        if digest and not re.fullmatch("[0-9a-f]{64}", digest):
            raise SplitError(
                f"{table}: {item.path}: expected a SHA-256 of 64 hexadecimal digits in column {HASH}, got {digest!r}; "
                "leave it empty where it is unknown"
            )
    both = zip(manifest.slices, said, strict=True)
    return replace(manifest, slices=tuple(replace(item, sha256=digest) for item, digest in both))


def class_shares(labels: Sequence[str], folds: Sequence[int]) -> dict[int, dict[str, float]]:
    """Share of each class within each fold."""
    shares = {}
    for fold in sorted(set(folds)):
        counts = Counter(label for label, number in zip(labels, folds, strict=True) if number == fold)
        shares[fold] = {label: counts[label] / sum(counts.values()) for label in sorted(set(labels))}
    return shares
