"""Patients from the names of folders and files: the table that `--patients` takes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from braincam.dataset.manifest import Manifest, Slice
from braincam.errors import DataError
from braincam.files import write_csv

FOLDER = r"([^/]+)/"  # the folder inside the class folder that a slice lies in


@dataclass(frozen=True)
class Named:
    """Whose each slice is, by its path, in the order of the folder; None: unknown."""

    patients: dict[str, str | None]
    several: tuple[str, ...]  # patients with slices of more than one class, sorted

    @property
    def counts(self) -> Counter[str]:
        """How many slices each patient has."""
        return Counter(name for name in self.patients.values() if name is not None)

    @property
    def unknown(self) -> list[str]:
        """Paths of the slices whose patient the names do not tell."""
        return [path for path, name in self.patients.items() if name is None]

    def write(self, table: Path) -> None:
        """Write the table: columns path,patient, an empty patient where it is unknown."""
        write_csv(table, ("path", "patient"), [(path, name or "") for path, name in self.patients.items()])


def name_patients(manifest: Manifest, pattern: str = FOLDER, *, per_class: bool = False) -> Named:
    """Tell patients by a regular expression that is matched at the start of each path below its class folder.

    Its first group is the patient, or all of the match where it has no group. With `per_class` one name in two classes
    is two patients, as where numbers begin anew in each class.

    Raises:
        DataError: the pattern is none, or tells no patient.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--pattern {pattern}: expected a regular expression, got: {error}") from error
    patients: dict[str, str | None] = {}
    classes: dict[str, set[str]] = defaultdict(set)
    for item in manifest.slices:
        found = expression.match(_below_class(item))
        name = (found[1 if expression.groups else 0] or "").strip() if found else ""
        if name and per_class:
            name = f"{item.label}/{name}"
        patients[item.path] = name or None
        if name:
            classes[name].add(item.label)
    if not classes:
        example = _below_class(manifest.slices[0])
        raise DataError(
            f"{manifest.root}: expected names that tell patients, got none that {pattern} matches; the pattern is "
            f"matched at the start of the path below the class folder, such as {example}: give another --pattern"
        )
    return Named(patients, tuple(sorted(name for name, labels in classes.items() if len(labels) > 1)))


def _below_class(item: Slice) -> str:
    """The path of a slice below its class folder."""
    return item.path.split("/", 2 if item.part else 1)[-1]
