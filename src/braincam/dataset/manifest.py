"""A labelled folder → a table of slices; nothing is decoded here.

Two layouts are read: ``DATA/<class>/*`` and ``DATA/{Training,Testing}/<class>/*``. A validation folder beside these is
read as part of Training: validation is cut from all of it, by group.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from braincam.errors import DataError
from braincam.images.ours import is_ours
from braincam.images.reader import looks_readable
from braincam.progress import say

PARTS = {"training": "Training", "train": "Training", "testing": "Testing", "test": "Testing"}
VALIDATION = {"validation", "valid", "val"}  # parts only beside one of the others: alone, "valid" may be a class

NO_NAME = {"", "-", "?", "n/a", "na", "nan", "nil", "none", "null", "unknown"}  # of a patient, in lower case

NO_TUMOUR = "notumor"
# The four classes go by other names in other copies of the data set.
SAME_CLASS = {
    "gliomatumor": "glioma",
    "meningiomatumor": "meningioma",
    "pituitarytumor": "pituitary",
    "notumor": NO_TUMOUR,
    "nontumor": NO_TUMOUR,
}


@dataclass(frozen=True, order=True)
class Slice:
    """One labelled picture."""

    path: str  # relative to the folder, with forward slashes
    label: str
    part: str | None = None  # "Training" or "Testing" where the folder has them
    patient: str | None = None  # None: unknown
    sha256: str | None = None  # of the file's bytes, where a table of folds says it: 64 hexadecimal digits


@dataclass(frozen=True)
class Manifest:
    """The slices of a folder, sorted by path, and what was passed over."""

    root: Path
    classes: tuple[str, ...]  # sorted
    slices: tuple[Slice, ...]
    ignored: tuple[str, ...] = ()  # hidden files and folders, links to folders, and files that are no pictures
    beside: tuple[tuple[str, int], ...] = ()  # of `ignored`, folders beside the parts that hold pictures, and how many

    @property
    def name(self) -> str:
        """The folder's own, also where it was given as ``.``"""
        return self.root.resolve().name

    @property
    def labels(self) -> list[int]:
        """Class number of each slice."""
        number = {name: k for k, name in enumerate(self.classes)}
        return [number[item.label] for item in self.slices]

    @property
    def has_official_split(self) -> bool:
        """Whether the folder comes with the popular Training/ and Testing/ parts, both filled."""
        return {item.part for item in self.slices} >= {"Training", "Testing"}

    def keep(self, rows: Iterable[int]) -> Manifest:
        """The same folder with only these rows; the classes stay as they are."""
        return replace(self, slices=tuple(self.slices[row] for row in rows))

    def file(self, row: int) -> Path:
        """Where the picture of a row lies."""
        return self.root / self.slices[row].path

    def digest(self) -> str:
        """A hash of the sorted paths, labels and file sizes: tells whether a folder is the one a run saw."""
        text = "\n".join(f"{item.path}\t{item.label}\t{(self.root / item.path).stat().st_size}" for item in self.slices)
        return hashlib.sha256(text.encode()).hexdigest()


def class_name(folder: str) -> str:
    """The class that a folder's name means: ``no_tumor`` and ``No Tumour`` are "notumor"; others stay as they are.

    But for accents, which macOS decomposes and others compose: "méningiome" is one class either way.
    """
    folder = unicodedata.normalize("NFC", folder)
    key = folder.lower().replace("tumour", "tumor")
    for separator in "_- ":
        key = key.replace(separator, "")
    return SAME_CLASS.get(key, key if key in SAME_CLASS.values() else folder)


def means_no_tumour(name: str) -> bool:
    """Whether a class is the one without a tumour, by its name: notumor, No Tumour, non-tumor, ..."""
    return class_name("".join(letter for letter in name if letter.isalnum())) == NO_TUMOUR


def read_folder(root: Path, patients: Path | None = None, *, least_classes: int = 2) -> Manifest:
    """List a labelled folder, with patients from a CSV of columns ``path,patient`` where given.

    Folders with pictures that lie beside Training/ and Testing/ are passed over, and named: they may be labelled.
    One class is too few to learn from, and enough to judge a model on.

    Raises:
        DataError: the folder is missing, has no pictures or fewer than `least_classes`, or the CSV does not fit it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with one sub-folder per class, got {_what_is(root)}")
    found: list[Slice] = []
    ignored: list[str] = []
    linked: list[str] = []
    empty: list[Path] = []
    parts = _parts(root)
    _check_level(root, parts)
    for top, part in parts.items() or {"": None}.items():
        for folder in _folders(root / top):
            if not top and folder.name in parts:
                continue
            before = len(found)
            _collect(root, folder, part, found, ignored, linked)
            if len(found) == before and top.lower() not in VALIDATION:
                empty.append(folder)
    for top in ("", *parts):
        ignored += _of_no_class(root, root / top)
    if linked:
        say(
            f"{root}: {len(linked)} {'link to a folder was' if len(linked) == 1 else 'links to folders were'} not "
            f"followed, such as {linked[0]}: copy what they lead to, if it is to be read"
        )
    others = [folder for folder in _folders(root) if parts and folder.name not in parts]
    ignored += [f"{_printable(folder.name)}/" for folder in others]
    if not found:
        raise DataError(
            f"{root}: no pictures found; expected {root.name}/<class>/*.png or "
            f"{root.name}/{{Training,Testing}}/<class>/*.png (also jpg, tif, dcm, ...)"
            + ("; links to folders are not followed" if linked else "")
        )
    if empty:
        raise DataError(f"{empty[0]}: expected pictures of class {empty[0].name}, got none; fill or remove the folder")
    classes = tuple(sorted({item.label for item in found}))
    if len(classes) < least_classes:
        raise DataError(
            f"{root}: expected at least two classes, got one ({classes[0]}); put each class in a folder of its own"
        )
    counted = [(f"{_printable(folder.name)}/", _pictures(folder)) for folder in others]
    beside = tuple((name, count) for name, count in counted if count)
    _say_what_is_read(root, parts, beside)
    manifest = Manifest(root, classes, tuple(sorted(found)), tuple(sorted(ignored)), beside)
    return with_patients(manifest, patients) if patients else manifest


def would_be_a_class(root: Path, out: Path) -> bool:
    """Whether what is written to the folder `out` would be read as slices with the labelled folder `root`."""
    top, inside = root.resolve(), out.resolve()
    if not root.is_dir() or not inside.is_relative_to(top) or inside == top:
        return False
    first = inside.relative_to(top).parts
    parts = _parts(root)
    return first[0] in parts if parts else not first[0].startswith(".")


def _parts(root: Path) -> dict[str, str]:
    """The sub-folders that are parts, and which; none where the classes lie in the folder itself."""
    folders = _folders(root)
    parts = {folder.name: PARTS[folder.name.lower()] for folder in folders if folder.name.lower() in PARTS}
    known = {class_name(folder.name) for part in parts for folder in _folders(root / part)}
    for folder in (folder for folder in folders if folder.name.lower() in VALIDATION):
        classes = {class_name(inside.name) for inside in _folders(folder)}
        if classes and classes <= known:  # else its folders are no classes
            parts[folder.name] = "Training"
    return parts


def _check_level(root: Path, parts: Iterable[str]) -> None:
    """A folder too high would be read as well, with its sub-folders for classes and every class mixed in them."""
    for folder in (folder for top in tuple(parts) or ("",) for folder in _folders(root / top)):
        inside = _folders(folder)
        deeper = [part for part in _parts(folder) if _folders(folder / part)]
        classes = [name.name for name in inside if class_name(name.name) in SAME_CLASS.values()]
        if deeper or len(classes) > 1:
            named = ", ".join(f"{name}/" for name in deeper or classes)
            one_part = "" if deeper else "; if it is one part of several, name the parts Training and Testing"
            raise DataError(
                f"{root}: expected one folder per class, got {folder.name}/ with {named} in it; did you mean {folder}?"
                f"{one_part}"
            )


def _pictures(folder: Path) -> int:
    """How many pictures lie in a folder that is passed over, at any depth; hidden ones and ours are none."""
    count = 0
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(where) / name for name in names if not name.startswith(".")]
        count += sum(looks_readable(path) and not is_ours(path) for path in paths)
    return count


def _say_what_is_read(root: Path, parts: Iterable[str], beside: Sequence[tuple[str, int]]) -> None:
    """A validation folder is read otherwise than its name says, and pictures beside the parts are not read at all."""
    if taken := [f"{name}/" for name in parts if name.lower() in VALIDATION]:
        say(f"{root}: {', '.join(taken)} is read as part of Training: validation is cut from all of that, by group")
    if beside:
        named = ", ".join(f"{name} ({count} {'picture' if count == 1 else 'pictures'})" for name, count in beside)
        read = ", ".join(f"{name}/" for name in parts)
        say(f"{root}: passed over: {named}; of this folder {read} are read: move labelled slices into one of these")


def with_patients(manifest: Manifest, table: Path) -> Manifest:
    """The manifest with patients filled in from a CSV; an empty cell or a missing row is an unknown patient.

    What does not match is said: a table that mostly misses the files would else pass for one that names the patients.
    """
    known = {path: known_name(row["patient"]) for path, row in read_rows(table, ("path", "patient"), manifest).items()}
    slices = tuple(replace(item, patient=known.get(item.path)) for item in manifest.slices)
    strange = sorted(known.keys() - {item.path for item in slices})
    if len(strange) == len(known):
        example = next(iter(known), "(no rows)")
        raise DataError(
            f"{table}: none of its {len(known)} paths is in {manifest.root}; expected paths such as "
            f"{manifest.slices[0].path}, got {example}"
        )
    lacking = sum(item.patient is None for item in slices)
    missed = [f"{len(strange)} of its {len(known)} rows match no file, such as {strange[0]}"] if strange else []
    without = [f"{lacking} of {len(slices)} slices have no patient"] if lacking else []
    if missed or without:
        say(f"{table}: {'; '.join(missed + without)}")
    return replace(manifest, slices=slices)


def known_name(cell: str) -> str | None:
    """A patient's name; None for what programs write where there is none: ``NA`` by R, ``nan`` by pandas, ..."""
    name = cell.strip()
    return None if name.lower() in NO_NAME else name


def read_rows(table: Path, columns: tuple[str, ...], manifest: Manifest) -> dict[str, dict[str, str]]:
    """Rows of a table (see `read_table`) by path, spelled as the folder spells it.

    Names with accents are decomposed on macOS and composed nearly everywhere else, and the same to whoever reads them.
    """
    exact = {item.path for item in manifest.slices}
    spelled = {unicodedata.normalize("NFC", path): path for path in exact}
    rows = read_table(table, columns)
    given = [row["path"] for row in rows]
    paths = [path if path in exact else spelled.get(unicodedata.normalize("NFC", path), path) for path in given]
    _check_once(table, paths)
    return dict(zip(paths, rows, strict=True))


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a UTF-8 CSV that has at least these columns; paths get forward slashes.

    Separated by commas, or by semicolons or tabs, as spreadsheets in many countries write it.

    Raises:
        DataError: the file is missing or unreadable, a column is missing, or a path stands there twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: expected a UTF-8 CSV, got: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected a UTF-8 CSV, got a file in another encoding, or no text; in a spreadsheet, save it as "
            '"CSV UTF-8"'
        ) from error
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)  # of equals, the comma
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="", delimiter=separator)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        rows = list(reader)
    except csv.Error as error:
        raise DataError(f"{path}: expected a CSV, got: {error}") from error
    header = reader.fieldnames or []
    if missing := [name for name in columns if name not in header]:
        raise DataError(
            f"{path}: expected columns {','.join(columns)}; {', '.join(missing)} missing, "
            f"got {','.join(header) or 'an empty file'}"
        )
    for row in rows:
        row["path"] = row["path"].replace("\\", "/").removeprefix("./")
    _check_once(path, [row["path"] for row in rows])
    return rows


def _check_once(table: Path, paths: Iterable[str]) -> None:
    if twice := [name for name, count in Counter(paths).items() if count > 1]:
        raise DataError(f"{table}: {twice[0]} stands there more than once; expected one row per slice")


def _collect(
    root: Path, folder: Path, part: str | None, found: list[Slice], ignored: list[str], linked: list[str]
) -> None:
    """Add every picture below one class folder; hidden files and folders, and links to folders, are only counted."""
    label = class_name(folder.name)
    for where, folders, names in os.walk(folder, onerror=_refuse):
        below = Path(where).relative_to(root)
        # a link to a folder is not followed: it may lead round in a circle, or to slices that are here already
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        linked += [_printable((below / name).as_posix()) for name in links]
        entered = [name for name in folders if not name.startswith(".") and name not in links]
        ignored += [f"{_printable((below / name).as_posix())}/" for name in folders if name not in entered]
        folders[:] = sorted(entered)
        for name in names:
            path = Path(where) / name
            relative = path.relative_to(root).as_posix()
            # a pipe or a device is no picture, and might be waited for in vain
            if (
                name.startswith(".")
                or not looks_readable(path)
                or is_ours(path)
                or (path.exists() and not path.is_file())
            ):
                ignored.append(_printable(relative))
            elif relative != _printable(relative):
                raise DataError(
                    f"{root}: the name of {_printable(relative)} is not UTF-8, so no table can name it; rename the file"
                )
            else:
                found.append(Slice(relative, label, part))


def _of_no_class(root: Path, folder: Path) -> list[str]:
    """What lies beside the class folders and may be taken for data: pictures, and whatever is hidden."""
    return [
        f"{_printable(entry.relative_to(root).as_posix())}{'/' * entry.is_dir()}"
        for entry in folder.iterdir()
        if entry.name.startswith(".") or (entry.is_file() and looks_readable(entry))
    ]


def _printable(name: str) -> str:
    """A file's name as it can be written down: bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _refuse(error: OSError) -> NoReturn:
    """A folder that cannot be listed may hold any number of slices: going on without them would change every score."""
    raise DataError(
        f"{error.filename}: expected a folder that can be listed, got: {error.strerror}; change its permissions, or "
        "move it out of the data set"
    )


def _folders(folder: Path) -> list[Path]:
    """Visible sub-folders in order; ``__MACOSX`` is what some zip programs leave behind."""
    try:
        with os.scandir(folder) as entries:  # which tells folders from files without asking for each file
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        _refuse(error)
    return [folder / name for name in sorted(names) if not name.startswith(".") and name != "__MACOSX"]


def _what_is(path: Path) -> str:
    return "a file" if path.exists() else "nothing at that path"
