"""Look for what is wrong with a labelled folder, and write it down with pictures of the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from braincam.dataset.audit import UNLIKE, Audit, FileFacts, Finding, find_faults, sort, unlikeness
from braincam.dataset.fingerprints import Fingerprints, fingerprint, gone
from braincam.dataset.groups import group
from braincam.dataset.manifest import Manifest, read_folder
from braincam.dataset.origin import owners
from braincam.dataset.twins import Twins, find_twins
from braincam.errors import DataError
from braincam.evaluation.probes import LOOK_UP, PROBES, probe, suspicious
from braincam.files import as_path, write_csv, write_json, write_text
from braincam.progress import say
from braincam.report.audit import data_sheet, write_audit_report

TWIN_COLUMNS = ("path_a", "path_b", "kind", "similarity", "same_label", "same_part")
FLAG_COLUMNS = ("path", "label", "group", "unlikeness")


def audit(
    data: Path | str,
    patients: Path | str | None = None,
    *,
    out: Path | str | None = None,
    about: Path | str | None = None,
) -> Audit:
    """Audit a folder; with `out`, write `audit.json`, `audit.html`, `data.md`, `twins.csv` and `flags.csv` there.

    `data.md` is a data sheet; `about` is a Markdown file with what no program can find out (provenance, licence, what
    must not be concluded), which is put at its head.

    Raises:
        DataError: the folder, the table of patients or `about` cannot be read, or there is no `out` to put `about` in.
    """
    words = own_words(as_path(about), out)  # first: an audit takes minutes
    manifest, prints, unreadable = fingerprint(read_folder(Path(data), as_path(patients)))
    twins = find_twins(prints)
    groups = group([item.patient for item in manifest.slices], prints.digests, twins, owners(prints.origins))
    files = file_facts(manifest, prints)
    result = find_faults(manifest, prints, twins, groups, unreadable, files)
    say("shortcut probes: classifiers that look for no lesion")
    result = with_probes(result, manifest, prints, groups, files)
    if out is not None:
        write_audit(Path(out), result, manifest, prints, twins, groups)
        write_text(Path(out) / "data.md", data_sheet(manifest.name, words, result))
    return result


def own_words(about: Path | None, out: Path | str | None) -> str:
    """What the file `about` says; nothing without one.

    Raises:
        DataError: it is no text in UTF-8, or no data sheet is asked for that it could stand in.
    """
    if about is None:
        return ""
    if out is None:
        raise DataError(f"--about {about}: its words go into data.md, which is written with --out DIR; give both")
    try:
        return about.read_text(encoding="utf-8-sig")
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is none of that: {error.reason}; save it as UTF-8"
    raise DataError(f"{about}: expected a Markdown file in UTF-8; {why}")


def file_facts(manifest: Manifest, prints: Fingerprints) -> FileFacts:
    """Colour mode and size in bytes of every file; only headers are read.

    Raises:
        DataError: one of them is no longer there.
    """
    modes, weights = [], []
    for row, item in enumerate(manifest.slices):
        path = manifest.file(row)
        try:
            with Image.open(path) as picture:
                modes.append(str(picture.mode))
        except (OSError, ValueError):  # DICOM, NIfTI
            modes.append(Path(item.path).suffix)
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise DataError(gone(path)) from error
        weights.append(size / max(int(prints.sizes[row].prod()), 1))
    return FileFacts(tuple(modes), np.array(weights), prints.sizes)


def with_probes(
    result: Audit, manifest: Manifest, prints: Fingerprints, groups: Sequence[str], files: FileFacts
) -> Audit:
    """Add what the shortcut probes reach, and a finding for each that is clearly better than guessing."""
    scores = probe(
        manifest.labels,
        groups,
        manifest.classes,
        file_facts=files.table(),
        histograms=prints.histograms,
        thumbnails=prints.thumbnails[:, 0],
    )
    findings = [
        Finding(
            f"shortcut_{name.replace(' ', '_')}", "warning", round(100 * metrics["balanced_accuracy"]),
            f"per cent balanced accuracy without seeing a lesion: {PROBES[name][0]}",
            f"Guessing gives {100 / len(manifest.classes):.0f}: {PROBES[name][1]}, and a network will use that too.",
            "Report this floor beside every score; take away what it sees (grey, framing, one window) before training.",
        )
        for name, metrics in scores.items()
        if name != LOOK_UP and suspicious(name, metrics)
    ]  # fmt: skip
    return Audit(sort([*result.findings, *findings]), {**result.facts, "probes": scores})


def write_audit(
    out: Path, result: Audit, manifest: Manifest, prints: Fingerprints, twins: Twins, groups: Sequence[str]
) -> None:
    """The four files of an audit."""
    slices = manifest.slices
    write_json(out / "audit.json", {"data": manifest.name, **summary(result)})
    rows = [
        (slices[a].path, slices[b].path, kind, f"{value:.4f}", int(slices[a].label == slices[b].label),
         int(slices[a].part == slices[b].part))
        for (a, b), kind, value in zip(twins.pairs.tolist(), twins.kinds, twins.similarity, strict=True)
    ]  # fmt: skip
    write_csv(out / "twins.csv", TWIN_COLUMNS, rows)
    write_csv(out / "flags.csv", FLAG_COLUMNS, flags(manifest, prints, groups))
    write_audit_report(out / "audit.html", manifest, result)


def flags(manifest: Manifest, prints: Fingerprints, groups: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Slices unlike their class, the furthest first."""
    distance = unlikeness(manifest, prints)
    far = [row for row in np.argsort(-distance, kind="stable").tolist() if distance[row] > UNLIKE]
    return [(manifest.slices[row].path, manifest.slices[row].label, groups[row], f"{distance[row]:.2f}") for row in far]


def summary(result: Audit) -> dict[str, Any]:
    """What `audit.json` holds."""
    return {
        "leaks": result.leaks,
        "complaints": result.complaints,
        "findings": [asdict(finding) for finding in result.findings],
        **result.facts,
    }
