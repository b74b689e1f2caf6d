"""The page of an audit: findings with pictures, counts by class, and the shortcut probes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from braincam.dataset.audit import Audit
from braincam.dataset.manifest import Manifest
from braincam.dataset.twins import read_one_slice
from braincam.errors import ImageError
from braincam.report.run import write_page

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
    write_page(out, "audit.html", name=manifest.root.name, facts=result.facts, result=result, findings=findings)


def _picture(manifest: Manifest, path: str) -> tuple[bytes, str] | None:
    """A small JPEG of a slice and its name, or None where there is no picture."""
    try:
        pixels = read_one_slice(manifest.root / path)
    except (ImageError, OSError):
        return None
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=85)
    return file.getvalue(), path
