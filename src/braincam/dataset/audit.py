"""What is wrong with a labelled folder: findings from its table, its fingerprints and its twins. Pure counting.

A finding's level says how bad it is: `leak` (a score on these parts means nothing), `conflict` (copies with different
labels), `warning` (look at it), `note` (good to know; no complaint).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from braincam.dataset.fingerprints import Fingerprints, Unreadable
from braincam.dataset.links import connected
from braincam.dataset.manifest import Manifest
from braincam.dataset.origin import owners, unsettled
from braincam.dataset.split import verify
from braincam.dataset.twins import KINDS, Twins

LEVELS = ("leak", "conflict", "warning", "note")
UNLIKE = 3.5  # robust spreads above its class's median (Iglewicz and Hoaglin 1993) that make a slice unlike the rest
HEAD = 1  # the view in which the head is framed
EXAMPLES = 6  # per finding
CLOSENESS = (*KINDS, "copy of a copy")  # what a test slice is to training, the closest first
_MODE_SHARES_DIFFER = 0.25  # between classes, in the share of a colour mode


@dataclass(frozen=True)
class Finding:
    """One thing found, what it means and what to do."""

    key: str
    level: str
    count: int
    title: str
    meaning: str
    advice: str
    examples: tuple[str, ...] = ()  # paths
    pairs: tuple[tuple[str, str], ...] = ()  # paths of two slices


@dataclass(frozen=True, eq=False)
class FileFacts:
    """What a file says before its pixels are looked at; one row per readable slice."""

    modes: tuple[str, ...]  # as the decoder names them: L, RGB, P, ...; the suffix where it is no picture format
    bytes_per_pixel: NDArray[np.float64]
    sizes: NDArray[np.int64]  # (N, 2) height, width

    def table(self) -> NDArray[np.float64]:
        """Numbers for a classifier: (N, 4)."""
        numbers = {mode: k for k, mode in enumerate(sorted(set(self.modes)))}
        return np.column_stack(([numbers[mode] for mode in self.modes], self.sizes, self.bytes_per_pixel))


@dataclass(frozen=True, eq=False)
class Audit:
    """All findings, worst first, and the counts behind them."""

    findings: tuple[Finding, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def leaks(self) -> bool:
        """Whether a leak or a label conflict was found."""
        return any(finding.level in ("leak", "conflict") for finding in self.findings)

    @property
    def complaints(self) -> int:
        """Findings that are more than notes."""
        return sum(finding.level != "note" for finding in self.findings)


def find_faults(
    manifest: Manifest,
    prints: Fingerprints,
    twins: Twins,
    groups: Sequence[str],
    unreadable: Sequence[Unreadable],
    files: FileFacts,
) -> Audit:
    """Everything but the shortcut probes."""
    owned = unsettled([item.patient for item in manifest.slices], owners(prints.origins))
    whose = [item.patient or (owner and f"row {owner}") for item, owner in zip(manifest.slices, owned, strict=True)]
    across = across_parts(manifest, prints.digests, twins, whose)
    findings = [
        *_passed_over(manifest, unreadable),
        *_class_names(manifest),
        *_twins(manifest, twins, across),
        *_patients(manifest, whose),
        *_conflicts(manifest, twins),
        *_formats(manifest, files),
        *_no_mr_slices(manifest, prints),
        *_windowless(manifest, prints),
        *_unlike(manifest, prints),
    ]
    counted = facts(manifest, prints, twins, groups, unreadable, files)
    return Audit(sort(findings), {**counted, "across_parts": across})


def sort(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Worst first."""
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def facts(
    manifest: Manifest,
    prints: Fingerprints,
    twins: Twins,
    groups: Sequence[str],
    unreadable: Sequence[Unreadable],
    files: FileFacts,
) -> dict[str, Any]:
    """Counts by class and part."""
    slices = manifest.slices
    mean = prints.histograms @ (np.arange(16) * 16 + 7.5)
    per_class = {}
    for name in manifest.classes:
        rows = [row for row, item in enumerate(slices) if item.label == name]
        quartiles = np.percentile(mean[rows], (25, 50, 75)) if rows else ()
        per_class[name] = {
            "slices": len(rows),
            "by_part": dict(Counter(slices[row].part or "" for row in rows)),
            "patients_known": len({slices[row].patient for row in rows} - {None}),
            "slices_without_patient": sum(slices[row].patient is None for row in rows),
            "groups": len({groups[row] for row in rows}),
            "modes": dict(Counter(files.modes[row] for row in rows)),
            "sizes": {f"{w}x{h}": n for (h, w), n in Counter(map(tuple, prints.sizes[rows].tolist())).most_common(5)},
            "mean_intensity": [round(float(value), 1) for value in quartiles],
        }
    kinds = Counter(twins.kinds)
    return {
        "slices": len(slices),
        "classes": per_class,
        "groups": len(set(groups)),
        "largest_group": max(Counter(groups).values()),
        "unreadable": len(unreadable),
        "ignored": list(manifest.ignored),
        "twin_pairs": {"all": len(twins.pairs), **kinds},
        "slices_with_twin": len(np.unique(twins.pairs)),
        "surplus_identical": len(prints.digests) - len(set(prints.digests)),
    }


def across_parts(
    manifest: Manifest, digests: Sequence[str], twins: Twins, whose: Sequence[str | None]
) -> dict[str, Any] | None:
    """How many test slices are in training too: of all, by class, and of those whose patient is known.

    Each is counted once, by the closest of its copies there. None where the folder has no Training/ and Testing/.
    """
    if not manifest.has_official_split:
        return None
    slices = manifest.slices
    closest = closest_in_training(manifest, digests, twins)
    tested = [row for row, item in enumerate(slices) if item.part == "Testing"]
    patients_in = {name for item, name in zip(slices, whose, strict=True) if item.part != "Testing"}
    known = [row for row in tested if whose[row]]

    def tally(rows: Iterable[int]) -> dict[str, Any]:
        found = [closest[row] for row in rows]
        by_kind = {kind: found.count(kind) for kind in CLOSENESS}
        return {"test_slices": len(found), "with_copy": sum(by_kind.values()), "by_kind": by_kind}

    return {
        **tally(tested),
        "by_class": {name: tally(row for row in tested if slices[row].label == name) for name in manifest.classes},
        "known_patient": {**tally(known), "with_patient_in_training": sum(whose[row] in patients_in for row in known)},
    }


def closest_in_training(manifest: Manifest, digests: Sequence[str], twins: Twins) -> list[str | None]:
    """Of `CLOSENESS`, what each test slice is to the training slice that it is closest to (N,).

    None: it has no copy there, or is a training slice itself.
    """
    in_test = np.array([item.part == "Testing" for item in manifest.slices])
    kind = np.full(len(in_test), len(CLOSENESS))
    cluster = connected(len(in_test), twins.pairs)  # of many copies the search lists the nearest alone
    kind[in_test & np.isin(cluster, cluster[~in_test])] = CLOSENESS.index("copy of a copy")
    across = in_test[twins.pairs[:, 0]] != in_test[twins.pairs[:, 1]]
    a, b = twins.pairs[across].T
    listed = np.array([CLOSENESS.index(name) for name in twins.kinds], np.int64)[across]
    np.minimum.at(kind, np.where(in_test[a], a, b), listed)
    trained = {digest for digest, test in zip(digests, in_test, strict=True) if not test}
    kind[in_test & [digest in trained for digest in digests]] = CLOSENESS.index("identical")
    return [(*CLOSENESS, None)[number] for number in kind.tolist()]


def _passed_over(manifest: Manifest, unreadable: Sequence[Unreadable]) -> list[Finding]:
    found = []
    if unreadable:
        found.append(
            Finding(
                "unreadable", "warning", len(unreadable), f"{many(len(unreadable), 'file')} that cannot be read",
                "They are left out of every split, training and score.",
                "Restore them from the source or delete them. The first: " + unreadable[0].reason,
                tuple(item.path for item in unreadable[:EXAMPLES]),
            )
        )  # fmt: skip
    with_slices = {item.label for item in manifest.slices}
    found += [
        Finding(
            "empty_class", "warning", 0, f"readable slices of class {name}",
            "Nothing can be learned or said about it.", "Restore its files from the source, or remove the class.",
        )
        for name in manifest.classes
        if name not in with_slices
    ]  # fmt: skip
    hidden = [name for name in manifest.ignored if any(part.startswith(".") for part in name.split("/"))]
    beside = dict(manifest.beside)
    stray = [name for name in manifest.ignored if name not in hidden and name not in beside]
    if beside:
        lie = "picture lies" if sum(beside.values()) == 1 else "pictures lie"
        found.append(
            Finding(
                "beside_parts", "warning", sum(beside.values()), f"{lie} beside the parts, in {', '.join(beside)}",
                "They are not read: they are in no split, training or score.",
                "Move those that are labelled into the class folders of a part, and all others out of the data set.",
            )
        )  # fmt: skip
    for key, names, title in (
        ("hidden", hidden, f"hidden {many(len(hidden), 'file')} or {many(len(hidden), 'folder')}"),
        ("stray", stray, f"stray {many(len(stray), 'file')} or {many(len(stray), 'folder')}"),
    ):
        if names:
            found.append(
                Finding(
                    key, "warning", len(names), title,
                    "They are ignored here; other programs may read them as data.",
                    "Delete them, or move them out of the data set.", tuple(names[:EXAMPLES]),
                )
            )  # fmt: skip
    return found


def _class_names(manifest: Manifest) -> list[Finding]:
    """One class under two names is two classes to whoever learns from the folder."""
    spelled: dict[str, list[str]] = {}
    for name in manifest.classes:
        spelled.setdefault("".join(letter for letter in name.casefold() if letter.isalnum()) or name, []).append(name)
    return [
        Finding(
            "class_names", "warning", len(names), f"classes that may be one: {', '.join(names)}",
            "Their names differ in case or separators alone. They are learnt and scored as different classes.",
            "Give both folders the same name if they are one class.",
        )
        for names in spelled.values()
        if len(names) > 1
    ]  # fmt: skip


def _twins(manifest: Manifest, twins: Twins, tally: Mapping[str, Any] | None) -> list[Finding]:
    slices = manifest.slices
    across: list[tuple[int, int]] = []
    within: list[tuple[int, int]] = []
    turned = 0  # of those within
    for (a, b), its in zip(twins.pairs.tolist(), twins.turned.tolist(), strict=True):
        straddles = slices[a].part != slices[b].part and slices[a].part and slices[b].part
        (across if straddles else within).append((a, b))
        turned += its and not straddles
    found = []
    if across and tally:
        copies, known = tally["with_copy"], tally["known_patient"]
        are = "is a copy" if copies == 1 else "are copies"
        kinds = ", ".join(f"{count} {kind}" for kind, count in tally["by_kind"].items() if count)
        classes = ", ".join(f"{row['with_copy']} of {row['test_slices']} {n}" for n, row in tally["by_class"].items())
        of_known = f"{known['with_copy']} of the {known['test_slices']} with a known patient"
        found.append(
            Finding(
                "twins_across_parts", "leak", copies, f"of {tally['test_slices']} test slices {are} of training slices",
                f"By the closest copy: {kinds}. By class: {classes}{f'; {of_known}' * bool(known['test_slices'])}. "
                "A score on this test part measures memory: looking up the nearest training slice does well there.",
                "Do not report this split alone. Make another: braincam split DATA --out folds.csv",
                pairs=_named(manifest, across),
            )
        )  # fmt: skip
    if within:
        found.append(
            Finding(
                "twins", "note", len(within), f"{many(len(within), 'pair')} of copies within one part",
                "Copies weigh double, and a random split would put them on both sides."
                + f" In {turned:,} of these pairs one slice lies upside down or turned." * bool(turned),
                "Split with braincam split, which keeps them together; they stand in twins.csv.",
                pairs=_named(manifest, within),
            )
        )  # fmt: skip
    return found


def _patients(manifest: Manifest, whose: Sequence[str | None]) -> list[Finding]:
    slices = manifest.slices
    found = []
    if unknown := [item.path for item, name in zip(slices, whose, strict=True) if name is None]:
        found.append(
            Finding(
                "patients_unknown", "note", len(unknown),
                f"of {len(slices)} {many(len(slices), 'slice')} without a known patient",
                "Copies of these are kept together; other slices of the same patient may lie on both sides of any "
                "split, and a score then says less about new patients than it seems to.",
                "Name them where they can be known: --patients CSV, with columns path,patient. Where names of folders "
                "or files tell, braincam patients writes it.",
                tuple(unknown[:EXAMPLES]),
            )
        )  # fmt: skip
    if manifest.has_official_split:
        in_test = [int(item.part == "Testing") for item in slices]
        straddling = verify(in_test, whose, np.empty((0, 2), np.int64)).patients
        tested = [(item, name) for item, name in zip(slices, whose, strict=True) if item.part == "Testing" and name]
        seen = [item for item, name in tested if name in straddling]
        have = "has" if len(seen) == 1 else "have"
        if seen:
            found.append(
                Finding(
                    "patients_across_parts", "leak", len(seen),
                    f"of {len(tested)} test slices with a known patient {have} that patient in training",
                    "Slices of one patient are alike; a score on them says nothing about new patients.",
                    "Split by patient: braincam split DATA --patients CSV --out folds.csv",
                    tuple(item.path for item in seen[:EXAMPLES]),
                )
            )  # fmt: skip
    first_of: dict[str, dict[str, str]] = defaultdict(dict)  # patient → label → path of the first slice
    for item in slices:
        if item.patient is not None:
            first_of[item.patient].setdefault(item.label, item.path)
    # shown by their slices: the page is made to be handed on, and identifiers are not
    if several := [paths for _, paths in sorted(first_of.items()) if len(paths) > 1]:
        found.append(
            Finding(
                "patients_with_several_labels", "note", len(several),
                f"{many(len(several), 'patient')} with slices of several classes",
                "Either these patients have both, or a label or an identifier is wrong.",
                "Look at their slices.", tuple(path for paths in several for path in paths.values())[:EXAMPLES],
            )
        )  # fmt: skip
    return found


def _conflicts(manifest: Manifest, twins: Twins) -> list[Finding]:
    slices = manifest.slices
    torn = [(a, b) for a, b in twins.pairs.tolist() if slices[a].label != slices[b].label]
    if not torn:
        return []
    return [
        Finding(
            "label_conflicts", "conflict", len(torn), f"{many(len(torn), 'pair')} of copies with different labels",
            "One of the two labels is wrong; nothing was relabelled.",
            "Look at each pair in twins.csv (same_label = 0), and correct or remove one.",
            pairs=_named(manifest, torn),
        )
    ]  # fmt: skip


def _formats(manifest: Manifest, files: FileFacts) -> list[Finding]:
    labels = np.array([item.label for item in manifest.slices])
    modes = np.array(files.modes)
    for mode in sorted(set(files.modes)):
        shares = {name: float((modes[labels == name] == mode).mean()) for name in sorted(set(labels.tolist()))}
        if max(shares.values()) - min(shares.values()) > _MODE_SHARES_DIFFER:
            listed = ", ".join(f"{share:.0%} of {name}" for name, share in shares.items())
            return [
                Finding(
                    "colour_mode", "warning", int((modes == mode).sum()),
                    f"{many(int((modes == mode).sum()), 'file')} of mode {mode}, unevenly spread",
                    f"The format tells the class: {listed}. A model that reads three channels may use it.",
                    "Read every file as grey, as braincam does.",
                )
            ]  # fmt: skip
    return []


def _no_mr_slices(manifest: Manifest, prints: Fingerprints) -> list[Finding]:
    """What `predict` would reject at sight, and training takes."""
    reasons = [origin.foreign for origin in prints.origins]
    colourful = [origin.colourful for origin in prints.origins]
    rejects = "braincam predict rejects such pictures; here a network would be trained on them."
    found = []
    if first := next(filter(None, reasons), None):
        found.append(
            Finding(
                "foreign", "warning", sum(map(bool, reasons)),
                f"{many(sum(map(bool, reasons)), 'slice')} of no MR modality, by what the files say",
                f"{rejects} The first: {first}.", "Remove them, or correct what their files say.",
                _some(manifest, reasons),
            )
        )  # fmt: skip
    if any(colourful):
        found.append(
            Finding(
                "colourful", "warning", sum(colourful), f"{many(sum(colourful), 'picture')} in visible colour",
                rejects, "Remove them, or export them in grey.", _some(manifest, colourful),
            )
        )  # fmt: skip
    return found


def _windowless(manifest: Manifest, prints: Fingerprints) -> list[Finding]:
    """Slices whose grey values a training sees otherwise than `predict` shows them within their series."""
    marks = [origin.windowless for origin in prints.origins]
    if not any(marks):
        return []
    return [
        Finding(
            "windowless", "warning", sum(marks), f"DICOM {many(sum(marks), 'slice')} without a window",
            "In a labelled folder each is stretched over its own grey values, by braincam predict over those of its "
            "whole series: the same slice looks different there.",
            "Export them with a window, or as pictures that were scaled series by series.", _some(manifest, marks),
        )
    ]  # fmt: skip


def _some(manifest: Manifest, marks: Sequence[object]) -> tuple[str, ...]:
    """Paths of the first marked slices."""
    return tuple(item.path for item, mark in zip(manifest.slices, marks, strict=True) if mark)[:EXAMPLES]


def _unlike(manifest: Manifest, prints: Fingerprints) -> list[Finding]:
    """Slices with a far brighter closed ring around the head than the rest of their class."""
    distance = unlikeness(manifest, prints)
    rows = [row for row in np.argsort(-distance, kind="stable").tolist() if distance[row] > UNLIKE]
    if not rows:
        return []
    its = "its" if len(rows) == 1 else "their"
    return [
        Finding(
            "unlike_their_class", "note", len(rows),
            f"{many(len(rows), 'slice')} with a far brighter skull than the rest of {its} class",
            "Most such slices are CT, where bone is white; some show lesions or another sequence.",
            "Look at them and at their groups; they stand in flags.csv, which braincam train takes: --refuse, or "
            "--without. Nothing was removed or relabelled.",
            tuple(manifest.slices[row].path for row in rows[:: max(1, len(rows) // EXAMPLES)][:EXAMPLES]),
        )
    ]  # fmt: skip


def unlikeness(manifest: Manifest, prints: Fingerprints) -> NDArray[np.float64]:
    """How far each slice's ring brightness lies above its class's median, in robust spreads (N,)."""
    ring = ring_brightness(prints.thumbnails[:, HEAD])
    labels = np.array([item.label for item in manifest.slices])
    distance = np.zeros(len(ring))
    for name in set(labels.tolist()):
        values = ring[labels == name]
        spread = 1.4826 * np.median(np.abs(values - np.median(values)))
        distance[labels == name] = (values - np.median(values)) / max(spread, 0.02)
    return distance


def ring_brightness(heads: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of framed heads (N, 32, 32): the brightest pixel towards each of 16 directions, against the inside; the third
    lowest, so that it is high only where the ring is closed, as the skull is in CT."""
    values = heads.astype(np.float64)
    line = np.linspace(-1, 1, heads.shape[1])
    radius = np.hypot(line, line[:, None]) * 1.2
    direction = ((np.arctan2(line[:, None], line) + np.pi) / (2 * np.pi) * 16).astype(int) % 16
    ring = (radius > 0.6) & (radius < 1.12)
    brightest = np.stack([values[:, ring & (direction == k)].max(1) for k in range(16)], 1)
    low, middle, high = np.percentile(values[:, radius < 0.55], (10, 50, 90), axis=1)
    return np.asarray(np.sort(brightest, 1)[:, 2] / (middle + high - low + 10))


def many(count: int, word: str) -> str:
    """The word as it stands after the count."""
    return word if count == 1 else f"{word}s"


def _named(manifest: Manifest, pairs: Sequence[tuple[int, int]]) -> tuple[tuple[str, str], ...]:
    """Paths of some pairs, spread over the list."""
    chosen = pairs[:: max(1, len(pairs) // EXAMPLES)][:EXAMPLES]
    return tuple((manifest.slices[a].path, manifest.slices[b].path) for a, b in chosen)
