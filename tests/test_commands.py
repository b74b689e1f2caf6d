"""Every `sh` and `python` block of README and docs does what the page says, on synthetic scans."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from braincam.dataset.phantom_volume import make_volume, write_volume
from braincam.pipeline.prepare import split
from conftest import BLOCK
from dicom_files import write_index, write_series
from pages import PAGES, ROOT, Block, blocks, name
from reader import NotHereError, Reader, check_call, reader

HEAD_OF_ANOTHER = "about-brain-tumor-mri.md"  # data.md begins with it
PROVEN = [
    page for page in PAGES if name(page) == "README.md" or (page.parent.name == "docs" and page.name != HEAD_OF_ANOTHER)
]
Tally = Callable[[str, object], None]  # what pytest's `record_property` is
AT_LEAST = 50  # blocks, so that a page whose fences are misspelt is noticed


def pages_with(*how: str) -> list[Path]:
    return [page for page in PROVEN if any(block.how in how for block in blocks(page))]


@pytest.fixture(scope="session")
def belongings(scans: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has at hand before a page begins, by the names that the pages use."""
    home = tmp_path_factory.mktemp("reader") / "home"
    with (scans / "patients.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:  # Testing holds other persons than Training
        row["part"] = "Testing" if int(row["patient"].rpartition("-")[2]) % 40 >= 32 else "Training"
        for kind, whole in (("data", "DATA"), ("masks", "masks")):
            old, new = scans / kind / row["path"], home / whole / row["part"] / row["path"]
            if old.exists():
                new.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(old, new)
    with (home / "patients.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "patient"])
        table.writerows([f"{row['part']}/{row['path']}", row["patient"]] for row in rows)
    split(home / "DATA", home / "protocol.csv", home / "patients.csv")
    shutil.copyfile(home / "protocol.csv", home / "folds-from-elsewhere.csv")
    shutil.copytree(home / "DATA", home / "OTHER")
    shutil.copytree(home / "masks", home / "tumour-masks")
    (home / "docs").mkdir()
    shutil.copyfile(ROOT / "docs" / HEAD_OF_ANOTHER, home / "docs" / HEAD_OF_ANOTHER)
    shutil.copytree(home / "DATA", home / "brain-tumor-mri-dataset")
    shutil.copyfile(run / "model.onnx", home / "model.onnx")
    heads = {label: make_volume(label, slices=18, size=96)[0] for label in ("glioma", "meningioma")}
    write_volume(home / "brain.nii.gz", heads["glioma"])
    both = np.stack([head.transpose(2, 1, 0) for head in (*heads.values(), heads["glioma"])], axis=-1)
    nibabel.save(nibabel.Nifti1Image(both, np.diag([2.4, 2.4, 5.0, 1.0])), home / "series.nii.gz")
    write_series(home / "study", heads["glioma"])
    shutil.copytree(home / "study", home / "disc" / "DICOM")
    write_index(home / "disc" / "DICOMDIR", [["DICOM", path.name] for path in sorted((home / "study").iterdir())])
    Image.fromarray(heads["glioma"][3]).save(home / "scan.png")
    (home / "scans").mkdir()
    shutil.copyfile(home / "scan.png", home / "scans" / "first.png")
    return home


@pytest.fixture(scope="session")
def demo(scans: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `braincam demo` leaves, as far as later lines use it; tests/test_demo.py runs it whole."""
    left = tmp_path_factory.mktemp("reader") / "demo"
    shutil.copytree(run, left / "run")
    shutil.copytree(scans, left / "scans")
    return left


def read(page: Path, how: tuple[str, ...], belongings: Path, demo: Path, tmp_path: Path, tally: Tally) -> None:
    """Run a page's blocks of these kinds in order, and tally every block of the page."""
    folder = tmp_path / "home"
    shutil.copytree(belongings, folder)
    with reader(folder, demo) as person:
        for block in blocks(page):
            tally(BLOCK, (block.page, block.line, attempt(person, block) if block.how in how else skipped(block)))


def attempt(person: Reader, block: Block) -> str:
    """Run a block; "" when it ran, or why it could not."""
    try:
        person.run(block)
    except NotHereError as missing:
        return f"needs {missing}, which is not on this machine"
    except Exception as error:
        error.add_note(f"in the block at {block.page}:{block.line}")
        raise
    return ""


def skipped(block: Block) -> str:
    """Why a block is not run; its calls are parsed all the same."""
    if block.language == "sh":
        check_call(block)
    return block.reason


@pytest.mark.timeout(900)  # a page of trainings, on a busy machine
@pytest.mark.parametrize("page", pages_with("run"), ids=name)
def test_a_page_does_what_it_says(
    page: Path, belongings: Path, demo: Path, tmp_path: Path, record_property: Tally
) -> None:
    read(page, ("run",), belongings, demo, tmp_path, record_property)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", pages_with("slow"), ids=name)
def test_a_page_of_long_work_does_what_it_says(
    page: Path, belongings: Path, demo: Path, tmp_path: Path, record_property: Tally
) -> None:
    read(page, ("run", "slow"), belongings, demo, tmp_path, record_property)


@pytest.mark.parametrize("page", [page for page in PROVEN if page not in pages_with("run")], ids=name)
def test_what_is_not_run_parses(page: Path, record_property: Tally) -> None:
    for block in blocks(page):
        record_property(BLOCK, (block.page, block.line, skipped(block)))


def test_the_blocks_are_found() -> None:
    assert sum(1 for page in PROVEN for _ in blocks(page)) >= AT_LEAST
