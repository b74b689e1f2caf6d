"""Damaged files of every format: what `make fuzz` does ten thousand times, a little of it, and what it once found."""

from __future__ import annotations

import io
import os
import signal
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from braincam.dataset.manifest import read_table
from braincam.errors import BraincamError, ConfigError, DataError, ImageError, SplitError
from braincam.images import apart
from braincam.images.reader import read_slices
from braincam.training.config import TrainConfig, read_config

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import fuzz
from fuzz_formats import FORMATS, Format, dataset_of, folder, lossless_jpeg, read_tables, wide, written

CORPUS = sorted(Path(__file__).with_name("corpus").iterdir())
QUICK = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_was_once_found_is_refused(path: Path) -> None:
    name = next(name for name, form in FORMATS.items() if form.ending == path.suffix)
    assert fuzz.outcome_of(name, path)[0] == "refused"


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_answered_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    seeds = FORMATS[name].seeds()
    path = tmp_path / f"file{FORMATS[name].ending}"

    @QUICK
    @given(st.integers(0, 2**32))
    def check(number: int) -> None:
        path.write_bytes(fuzz.mutated(name, seeds, 1, number))
        outcome, said = fuzz.outcome_of(name, path)
        assert outcome in {"answered", "refused"}, said

    check()


def test_the_fuzzer_sees_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starving(_: Path) -> None:
        raise ImageError("damaged") from MemoryError()

    def failing(_: Path) -> None:
        raise KeyError("x")

    for reader, outcome in ((starving, "memory"), (failing, "traceback"), (lambda _: None, "answered")):
        monkeypatch.setitem(FORMATS, "png", Format(".png", list, reader))
        assert fuzz.outcome_of("png", tmp_path)[0] == outcome


def test_the_same_number_is_the_same_file() -> None:
    seeds = FORMATS["csv"].seeds()
    first = [fuzz.mutated("csv", seeds, 0, number) for number in range(40)]
    assert first == [fuzz.mutated("csv", seeds, 0, number) for number in range(40)]
    assert len(set(first)) > 35


# -- tables and recipes ------------------------------------------------------------------------------------------------


@QUICK
@given(st.lists(st.lists(st.text(max_size=8), max_size=6), max_size=6), st.sampled_from([",", ";", '","', "\t"]))
def test_any_table_is_read_or_refused(rows: list[list[str]], between: str) -> None:
    path = Path(tempfile_of("\n".join(["path,patient", *(between.join(row) for row in rows)])))
    try:
        found = read_table(path, ("path", "patient"))
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(row["path"], str) for row in found)
    finally:
        path.unlink()


@QUICK
@given(st.text(max_size=60), st.sampled_from(["", "epochs = ", "mean = [", "[", "seed = 0x"]))
def test_any_text_is_a_recipe_or_refused(text: str, before: str) -> None:
    path = Path(tempfile_of(before + text))
    try:
        assert isinstance(read_config(path), TrainConfig)
    except ConfigError as error:
        assert "\n" not in str(error)
    finally:
        path.unlink()


def tempfile_of(text: str) -> str:
    """A file with this text, surrogates and all."""
    import tempfile

    number, name = tempfile.mkstemp()
    with os.fdopen(number, "wb") as file:
        file.write(text.encode("utf-8", "surrogatepass"))
    return name


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, "a = " + "{b=" * 5000, "seed = 1" + "0" * 5000, "seed = 0x" + "f" * 5000, "dropout = 0x" + "f" * 5000],
)
def test_a_recipe_nested_too_deeply_or_with_too_long_a_number_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(ConfigError):
        read_config(tmp_path / "recipe.toml")


def test_a_fold_of_ten_thousand_digits_is_refused_and_not_quoted_in_full(tmp_path: Path) -> None:
    rows = [f"{item.path},{item.label},p,g,{'9' * 10_000}" for item in folder().slices]
    (tmp_path / "folds.csv").write_text("\n".join(["path,label,patient,group,fold", *rows]) + "\n")
    with pytest.raises(SplitError) as caught:
        read_tables(tmp_path / "folds.csv")
    assert "expected a fold number" in str(caught.value)
    assert len(str(caught.value)) <= 6000


def test_a_message_is_one_line() -> None:
    assert str(BraincamError("a\nb\r\nc\x0bd")) == "a b c d"


# -- memory ------------------------------------------------------------------------------------------------------------


def peak_of(source: Path | bytes) -> int:
    """Bytes taken, at the worst moment, by reading what is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(ImageError):
            read_slices(source)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_length_inside_a_file_takes_no_memory(tmp_path: Path) -> None:
    """A chunk that says it has two gigabytes; voxels that are not there."""
    import nibabel as nib

    assert peak_of(Path(__file__).with_name("corpus") / "chunk-of-gigabytes.png") < 20_000_000
    header = nib.Nifti1Header()
    header.set_data_shape((600, 600, 600))
    header.set_data_dtype(np.int16)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    header.set_sform(np.eye(4), 1)
    (tmp_path / "short.nii").write_bytes(header.binaryblock + b"\0" * 5000)
    assert peak_of(tmp_path / "short.nii") < 20_000_000


def test_a_png_of_few_bytes_cannot_state_many_pixels() -> None:
    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (64, 64)).save(out, "PNG")
    blob = bytearray(out.getvalue())
    blob[16:24] = (7000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError, match="bytes for 7,000 x 7,000 pixels"):
        read_slices(fuzz.with_right_sums(bytes(blob)))


# -- a decoder that dies -----------------------------------------------------------------------------------------------


def test_a_file_that_ends_gdcm_costs_the_next_one_nothing() -> None:
    pytest.importorskip("gdcm", reason="needs the extra `dicom`")
    sound = lossless_jpeg(written(dataset_of(wide().astype(np.int16))))
    expected = read_slices(written(dataset_of(wide().astype(np.int16))))[0].pixels
    for _ in range(2):
        with pytest.raises(ImageError, match="cannot be decoded"):
            read_slices(Path(__file__).with_name("corpus") / "ends-gdcm.dcm")
        np.testing.assert_array_equal(read_slices(sound)[0].pixels, expected)


@pytest.mark.skipif(sys.platform == "win32", reason="stops a process by a signal")
def test_a_decoder_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gdcm", reason="needs the extra `dicom`")
    sound = lossless_jpeg(written(dataset_of(wide().astype(np.int16))))
    read_slices(sound)
    assert apart._process is not None
    monkeypatch.setattr(apart, "SECONDS", 0.3)
    apart._process.send_signal(signal.SIGSTOP)
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_slices(sound)
    monkeypatch.undo()
    assert read_slices(sound)[0].pixels.shape == wide().shape
