"""The page of an audit: findings with pictures, counts by class, and the shortcut probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from braincam.dataset.audit import Audit, many
from braincam.dataset.fingerprints import read_one_slice
from braincam.dataset.manifest import Manifest
from braincam.errors import ImageError
from braincam.report.page import jpeg, write_page
from braincam.resampling import with_interval

TITLES = {
    "leak": "Leak",
    "conflict": "Conflict",
    "warning": "Look at this",
    "note": "Good to know",
}
_SIDE = 132  # pixels of a picture on the page


def write_audit_report(out: Path, manifest: Manifest, result: Audit) -> None:
    """Write one HTML file that needs nothing else."""
    findings: list[dict[str, Any]] = []
    for finding in result.findings:
        pairs = [[_picture(manifest, path) for path in pair] for pair in finding.pairs[:4]]
        single = [_picture(manifest, path) for path in finding.examples[:6]]
        findings.append(
            {
                "finding": finding,
                "level": TITLES[finding.level],
                "pairs": [pair for pair in pairs if all(pair)],
                "singles": [picture for picture in single if picture],
                "names": [name for name, picture in zip(finding.examples, single, strict=False) if not picture],
            }
        )
    across = result.facts["across_parts"]
    write_page(
        out,
        "audit.html",
        name=manifest.name,
        facts=result.facts,
        result=result,
        findings=findings,
        across=across_rows(across) if across and across["with_copy"] else [],
        kinds=shown_kinds(across) if across else [],
    )


def data_sheet(name: str, about: str, result: Audit) -> str:
    """What is known of a data set as Markdown: `about` in its maker's words, then what the audit counted."""
    own_words = [about.strip(), ""] if about else []
    parts = (_counted(result.facts), _copies(result.facts), _found(result), _probed(result.facts))
    return "\n".join([f"# Data sheet: {name}", "", *own_words, *(line for part in parts for line in part)]) + "\n"


def _counted(facts: dict[str, Any]) -> list[str]:
    unreadable, ignored = _number(facts["unreadable"], "file"), len(facts["ignored"])
    passed = "1 file or folder was" if ignored == 1 else f"{ignored} files or folders were"
    return [
        "## What the audit counted",
        "",
        f"{facts['slices']:,} slices in {len(facts['classes'])} classes and {facts['groups']:,} groups that belong",
        f"together by patient, bytes or likeness; the largest has {facts['largest_group']} slices.",
        f"{unreadable} cannot be read, {passed} passed over.",
        "",
        "| class | slices | parts | patients known | slices without | groups | colour modes | mean grey, quartiles |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {label} | {row['slices']:,} | {_counts(row['by_part'])} | {row['patients_known']} | "
            f"{row['slices_without_patient']:,} | {row['groups']} | {_counts(row['modes'])} | "
            f"{', '.join(map(str, row['mean_intensity']))} |"
            for label, row in facts["classes"].items()
        ),
    ]


def _copies(facts: dict[str, Any]) -> list[str]:
    copies = _number(facts["twin_pairs"]["all"], "pair")
    pairs = {kind: count for kind, count in facts["twin_pairs"].items() if kind != "all"}
    kinds = f": {_counts(pairs)}" if pairs else ""
    surplus = facts["surplus_identical"]
    repeats = "1 file repeats" if surplus == 1 else f"{surplus} files repeat"
    return [
        "",
        "## Copies",
        "",
        f"{copies} of copies among {facts['slices_with_twin']:,} slices{kinds}.",
        f"{repeats} another byte by byte.",
        *_across(facts["across_parts"]),
    ]


def _across(across: dict[str, Any] | None) -> list[str]:
    if not across or not across["with_copy"]:
        return []
    kinds = shown_kinds(across)
    return [
        "",
        "Test slices by the closest of their copies in training:",
        "",
        f"| class | test slices | in training too | {' | '.join(kinds)} |",
        f"|{'---|' * (3 + len(kinds))}",
        *(
            f"| {name} | {row['test_slices']:,} | {row['with_copy']:,} | "
            f"{' | '.join(format(row['by_kind'][kind], ',') for kind in kinds)} |"
            for name, row in across_rows(across)
        ),
    ]


def across_rows(across: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What the table of copies in training shows: the classes, all of them, and, where some are, the traced slices."""
    known = [("patient known", across["known_patient"])] if across["known_patient"]["test_slices"] else []
    return [*across["by_class"].items(), ("all", across), *known]


def shown_kinds(across: dict[str, Any]) -> list[str]:
    """Kinds of copies of which there are any."""
    return [kind for kind, count in across["by_kind"].items() if count]


def _found(result: Audit) -> list[str]:
    return [
        "",
        "## Findings",
        "",
        *(
            f"- **{TITLES[finding.level]}: {finding.count:,} {finding.title}.** {finding.meaning} {finding.advice}"
            for finding in result.findings
        ),
    ]


def _probed(facts: dict[str, Any]) -> list[str]:
    head = ["", "## Shortcut probes", ""]
    if not facts["probes"]:
        return [*head, f"Not run: too few patients or groups for them (n = {facts['groups']})."]
    lines = [
        *head,
        "Classifiers that look for no lesion, trained and tested on different groups.",
        "The nearest neighbour sees the whole picture, small.",
        "",
        "| sees | accuracy | balanced accuracy |",
        "|---|---|---|",
    ]
    for probe, metrics in facts["probes"].items():
        lines.append(f"| {probe} | {metrics['accuracy']:.3f} | {with_interval(metrics, 'balanced_accuracy')} |")
    return lines


def _number(count: int, one: str) -> str:
    return f"{count:,} {many(count, one)}"


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {key}".strip() for key, count in numbers.items())


def _picture(manifest: Manifest, path: str) -> tuple[bytes, str] | None:
    """A small JPEG of a slice and its name, or None where there is no picture."""
    try:
        pixels = read_one_slice(manifest.root / path)
    except (ImageError, OSError):
        return None
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE))
    return jpeg(picture), path
