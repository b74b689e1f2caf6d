"""Shared material: synthetic scans and one quick training, made once per test session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from braincam.dataset.phantom import write_phantom

QUICK = (
    "epochs=4",
    "image_size=64",
    "network=tiny",
    "batch_size=16",
    "threads=1",
    "ema_decay=0.5",
    "patience=0",
)


BLOCK = "documented block"  # a test's property: page, line, and why it was not run, "" if it was


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many documented commands ran, and why the others did not."""
    reports = (report for kind in terminalreporter.stats.values() for report in kind)
    found = (item for report in reports if getattr(report, "when", "") == "call" for item in report.user_properties)
    tally = {(page, line): reason for name, (page, line, reason) in found if name == BLOCK}
    if not tally:
        return
    left = sorted((place, reason) for place, reason in tally.items() if reason)
    terminalreporter.write_line(f"documented blocks: {len(tally) - len(left)} ran, {len(left)} did not:")
    for (page, line), reason in left:
        terminalreporter.write_line(f"  {page}:{line}: {reason}")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither use nor fill the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINCAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, masks/ and patients.csv: 40 patients, two slices each."""
    folder = tmp_path_factory.mktemp("scans")
    write_phantom(folder, patients=40, slices_per_patient=2, seed=3, size=96)
    return folder


@pytest.fixture(scope="session")
def run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick training on the scans. Its scores mean nothing; its files are complete."""
    from braincam.pipeline.train import train

    out = tmp_path_factory.mktemp("runs") / "quick"
    train(
        scans / "data",
        out,
        patients=scans / "patients.csv",
        config=Path("demo"),
        overrides=QUICK,
        masks=scans / "masks",
    )
    return out


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The Brain Tumor MRI Dataset, where this machine has it."""
    candidates = [
        os.environ.get("BRAINCAM_DATA"),
        Path(__file__).parents[2] / "shared" / "data" / "brain-tumor-mri",
    ]
    for candidate in candidates:
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    pytest.skip("the Brain Tumor MRI Dataset is not here: set BRAINCAM_DATA to its folder")
