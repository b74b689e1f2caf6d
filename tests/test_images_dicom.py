"""DICOM: shown as the scanner's own viewer would, and never a patient's name in a message."""

from __future__ import annotations

import io
import logging
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from braincam.errors import ImageError
from braincam.images import Reading, read_slices, to_grey
from braincam.images.dicom import plane_of, rescaled_values
from braincam.images.grey import SizeLimits, stretch
from braincam.images.quiet import quiet
from braincam.images.reader import looks_readable
from braincam.images.series import read_header
from dicom_files import NAME, dataset_of, enhanced, written

FAST = settings(max_examples=30, deadline=None, derandomize=True)
SHAPE = (20, 24)


def shown(stored: np.ndarray, syntax: str = ExplicitVRLittleEndian, **attributes: object) -> np.ndarray:
    (item,) = read_slices(written(dataset_of(stored, syntax, **attributes)))
    assert item.index is None
    assert not item.colourful
    assert item.pixels.flags.writeable
    return item.pixels


def values(seed: int, dtype: type = np.uint16, low: int = 0, high: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, SHAPE, dtype)


@FAST
@given(hnp.arrays(np.int16, SHAPE))
def test_signed_values_go_from_minimum_to_maximum(stored: np.ndarray) -> None:
    np.testing.assert_array_equal(shown(stored), to_grey(stored))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_transfer_syntax_does_not_show(syntax: str) -> None:
    stored = values(1)
    np.testing.assert_array_equal(shown(stored, syntax), to_grey(stored))


def test_eight_bits_pass_and_a_one_bit_mask_is_black_and_white() -> None:
    stored = values(2, np.uint8, 40, 200)
    np.testing.assert_array_equal(shown(stored), stored)
    mask = values(2, np.uint8, 0, 2)
    np.testing.assert_array_equal(shown(mask, BitsStored=1, HighBit=0), mask * 255)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1500, "WindowWidth": 900}])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_monochrome1_is_the_inverse_of_monochrome2(dtype: type, window: dict[str, int]) -> None:
    stored = values(3, dtype, 0, 127)
    plain, inverse = (shown(stored, PhotometricInterpretation=p, **window) for p in ("MONOCHROME2", "MONOCHROME1"))
    np.testing.assert_array_equal(inverse, 255 - plain)


@FAST
@given(st.integers(-2000, 2000), st.integers(2, 3000), st.sampled_from([(1, 0), (2.5, -1024), (-1, 100)]))
def test_a_window_acts_on_rescaled_values(centre: int, width: int, rescale: tuple[float, float]) -> None:
    stored = values(4, np.int16, -2000, 2000)
    slope, intercept = rescale
    attributes = {
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
        "WindowCenter": centre,
        "WindowWidth": width,
    }
    picture = shown(stored, **attributes)
    real = stored * slope + intercept
    # PS3.3 C.11.2.1.2.1
    below, above = real <= centre - 0.5 - (width - 1) / 2, real > centre - 0.5 + (width - 1) / 2
    inside = np.clip(((real - (centre - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)
    assert not picture[below].any()
    assert (picture[above] == 255).all()
    assert np.abs(picture - inside)[~(below | above)].max(initial=0) <= 0.5 + 1e-6


def test_rescale_without_a_window_leaves_the_picture_alone_but_for_the_sign() -> None:
    stored = values(5)
    np.testing.assert_array_equal(shown(stored, RescaleSlope=0.5, RescaleIntercept=-7), to_grey(stored))
    np.testing.assert_array_equal(shown(stored, RescaleSlope=-2, RescaleIntercept=9), to_grey(-stored.astype(int)))


def test_the_first_of_several_windows_counts_and_an_empty_one_does_not() -> None:
    stored = values(6)
    one = shown(stored, WindowCenter=1000, WindowWidth=500)
    np.testing.assert_array_equal(shown(stored, WindowCenter=[1000, 40], WindowWidth=[500, 80]), one)
    for nothing in (
        {"WindowCenter": 1000, "WindowWidth": 0},
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": 9},
    ):
        np.testing.assert_array_equal(shown(stored, **nothing), to_grey(stored))


def test_a_sigmoid_window_is_half_grey_at_its_centre_and_never_flat() -> None:
    stored = np.tile(np.arange(0, 2400, 100, dtype=np.uint16), (20, 1))
    row = shown(stored, WindowCenter=1200, WindowWidth=2000, VOILUTFunction="SIGMOID")[0].astype(int)
    assert row[12] == pytest.approx(127.5, abs=0.5)
    assert (np.diff(row) > 0).all()
    exact = shown(stored, WindowCenter=1200, WindowWidth=2000, VOILUTFunction="LINEAR_EXACT")[0]
    assert (exact[2], exact[22]) == (0, 255)


def test_padding_is_black_and_does_not_flatten_the_scan() -> None:
    stored = values(7, np.int16, 100, 1000)
    padded = stored.copy()
    padded[:3] = -32768
    picture = shown(padded, PixelPaddingValue=-32768)
    assert not picture[:3].any()
    np.testing.assert_array_equal(picture[3:], to_grey(stored[3:]))


def test_frames_are_numbered_and_scaled_together() -> None:
    stored = np.stack([values(8) // 4, values(9)])
    slices = read_slices(written(dataset_of(stored)))
    assert [item.index for item in slices] == [0, 1]
    joined = stretch(stored, *np.percentile(stored, (0.5, 99.5)))
    for item, frame in zip(slices, joined, strict=True):
        np.testing.assert_array_equal(item.pixels, frame)


def test_colour_becomes_grey_and_says_so() -> None:
    stored = np.random.default_rng(10).integers(0, 256, (*SHAPE, 3), np.uint8)
    (item,) = read_slices(written(dataset_of(stored)))
    np.testing.assert_array_equal(item.pixels, to_grey(stored))
    assert item.colourful
    same = np.dstack([stored[..., 0]] * 3)
    (item,) = read_slices(written(dataset_of(same)))
    np.testing.assert_array_equal(item.pixels, stored[..., 0])
    assert not item.colourful


@pytest.mark.parametrize("bits", [12, 16])
def test_colour_deeper_than_eight_bits_is_the_same_picture(bits: int) -> None:
    narrow = np.random.default_rng(10).integers(0, 256, (*SHAPE, 3), np.uint8)
    wide = np.round(narrow / 255 * (2**bits - 1)).astype(np.uint16)
    (item,) = read_slices(written(dataset_of(wide, BitsStored=bits, HighBit=bits - 1)))
    assert item.colourful
    assert np.abs(item.pixels.astype(int) - to_grey(narrow)).max() <= 1
    (item,) = read_slices(written(dataset_of(np.dstack([wide[..., 0]] * 3), BitsStored=bits, HighBit=bits - 1)))
    assert not item.colourful


# --- faults ----------------------------------------------------------------------------------------------


def refused(dataset_or_blob: Dataset | bytes, *words: str) -> None:
    blob = dataset_or_blob if isinstance(dataset_or_blob, bytes) else written(dataset_or_blob)
    with pytest.raises(ImageError) as caught:
        read_slices(blob)
    message = str(caught.value)
    assert "\n" not in message
    assert "Doe" not in message
    assert "4711" not in message
    for word in ("bytes: expected", "got", ";", *words):
        assert word in message


def without(name: str) -> Dataset:
    dataset = dataset_of(values(11))
    delattr(dataset, name)
    return dataset


def test_objects_that_hold_no_picture() -> None:
    refused(without("PixelData"), "without pixel data", "MR Image Storage")
    refused(without("Rows"), "without Rows")
    refused(dataset_of(np.zeros((8, 400), np.uint16)), "at least 16 x 16")
    refused(bytes(128) + b"DICM")
    refused(bytes(128) + b"DICM" + b"Doe^Jane" * 40)


def test_a_false_size_is_refused_before_decoding() -> None:
    refused(dataset_of(values(12), Rows=60_000, Columns=60_000), "64,000,000 pixels")
    refused(dataset_of(values(12), NumberOfFrames=2_000_000), "slices")
    refused(dataset_of(values(12), Rows=200), "cannot be decoded")


def test_cut_off_pixel_data() -> None:
    refused(written(dataset_of(values(13)))[:-100], "cannot be decoded")


def test_a_bad_value_is_not_quoted() -> None:
    blob = written(dataset_of(values(14), RescaleSlope="1.00000001"))
    refused(blob.replace(b"1.00000001", b"Doe^Jane^X"))


@pytest.mark.parametrize(
    ("syntax", "name", "plugin"),
    [
        (JPEGLSLossless, "JPEG-LS Lossless", "pyjpegls"),
        (JPEGLosslessSV1, "JPEG Lossless", "python-gdcm"),
        (HTJ2KLossless, "High-Throughput JPEG 2000", "pylibjpeg-openjpeg"),
    ],
)
def test_compressed_without_a_decoder_names_the_syntax_and_the_missing_plugin(
    syntax: UID, name: str, plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(get_decoder(syntax)), "is_available", False)
    plugin = f"{plugin} where braincam runs"  # perhaps not where the reader sits
    dataset = dataset_of(values(15))
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7" + bytes(96)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    refused(dataset, name, plugin, 'pip install ".[dicom]"', "uncompressed")


def test_deflated_is_refused_unopened() -> None:
    refused(dataset_of(np.zeros((2000, 2000), np.uint16), DeflatedExplicitVRLittleEndian), "Deflated", "re-export")


def test_nothing_of_pydicom_is_printed(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    dataset = dataset_of(values(16))
    dataset.add_new("ContentDate", "LO", "no date of Doe^Jane")
    dataset.SOPInstanceUID = "1.2.3.99"
    blob = written(dataset).replace(b"1.2.3.99", NAME.encode())  # pydicom warns of it, quoting it
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    assert read_slices(blob)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("pydicom").disabled


def test_a_name_in_the_place_of_a_class_is_not_quoted() -> None:
    dataset = without("PixelData")
    dataset.SOPClassUID = "1.2.3.99"
    refused(written(dataset).replace(b"1.2.3.99", NAME.encode()), "an invalid UID")


SEED = written(dataset_of(values(17)))
NESTED = dataset_of(values(17), ReferencedStudySequence=Sequence([Dataset()]))
NESTED.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3"
SEEDS = [SEED, written(NESTED), written(dataset_of(values(17), ImplicitVRLittleEndian))]


@settings(FAST, max_examples=150)
@given(st.data(), st.sampled_from(SEEDS))
def test_mutated_files_only_raise_image_errors(data: st.DataObject, seed: bytes) -> None:
    blob = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(128, len(blob) - 2 * SHAPE[0] * SHAPE[1]))] = data.draw(st.integers(0, 255))
    try:
        slices = read_slices(bytes(blob))
    except ImageError as error:
        assert "\n" not in str(error)
        assert "Doe" not in str(error)
    else:
        assert all(item.pixels.dtype == np.uint8 and item.pixels.ndim == 2 for item in slices)


# --- pydicom's own test files ----------------------------------------------------------------------------

FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def sample(name: str) -> Path:
    """A file inside the installed package; `get_testdata_file` might go to the network."""
    if not (FILES / name).is_file():
        pytest.skip(f"{name} is not in this pydicom package")
    return FILES / name


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_RLE.dcm",
        "MR_small_padded.dcm",
        "MR_small_expb.dcm",
    ],
)
def test_one_scan_in_several_encodings_is_one_picture(name: str) -> None:
    (plain,), (other,) = read_slices(sample("MR_small.dcm")), read_slices(sample(name))
    assert plain.pixels.std() > 20
    np.testing.assert_array_equal(other.pixels, plain.pixels)


def test_palette_and_ybr_are_shown_in_grey() -> None:
    dataset = pydicom.dcmread(sample("examples_palette.dcm"))
    rgb = apply_color_lut(dataset.pixel_array, dataset)[..., :3] / 65535 * 255
    (palette,) = read_slices(sample("examples_palette.dcm"))
    assert palette.colourful
    assert np.abs(palette.pixels - rgb @ [0.299, 0.587, 0.114]).max() <= 1
    (ybr,), (rgb,) = (
        read_slices(sample("SC_ybr_full_422_uncompressed.dcm")),
        read_slices(sample("SC_rgb_dcmtk_+eb+cr.dcm")),
    )
    assert np.abs(ybr.pixels.astype(int) - rgb.pixels).mean() < 3


@pytest.mark.parametrize(
    "name", ["rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm", "rtstruct.dcm", "no_meta.dcm", "badVR.dcm"]
)
def test_foreign_objects_are_refused(name: str) -> None:
    refused(sample(name).read_bytes())


@pytest.mark.parametrize(
    "name", sorted(str(f.relative_to(FILES.parent)) for f in FILES.parent.rglob("*") if f.is_file())
)
def test_every_file_that_pydicom_ships_gives_slices_or_a_clear_error(name: str) -> None:
    path = FILES.parent / name
    try:
        slices = read_slices(path)
    except ImageError as error:
        message = str(error)
        assert message.startswith(f"{path}: expected ")
        assert ", got " in message or ", found " in message
        assert ";" in message
        assert "\n" not in message
    else:
        assert slices
        assert all(item.pixels.dtype == np.uint8 and item.pixels.ndim == 2 for item in slices)
        with quiet:
            kind = pydicom.dcmread(path, stop_before_pixels=True, force=True).get("Modality")
        assert kind == "MR" or slices[0].foreign or kind is None or name.endswith((".png", ".jpg"))


def test_what_says_it_is_no_mr_image_is_marked_with_the_reason() -> None:
    def foreign(**attributes: object) -> str | None:
        return read_slices(written(dataset_of(values(18), **attributes)))[0].foreign

    assert foreign(Modality="MR") is None
    assert foreign() is None
    assert foreign(SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", Modality="MR") is None  # Enhanced MR
    assert foreign(ImageType=["DERIVED", "SECONDARY"], Modality="MR") is None  # anonymised: still an MR image
    assert foreign(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT") == "CT Image is not an MR image"
    assert "screenshot" in (foreign(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="MR") or "")
    assert foreign(SOPClassUID="", Modality="PT") == "its modality is PT, not MR"
    assert foreign(Modality="JANE") is None  # what is no modality is never quoted


def test_a_table_goes_before_a_window_and_maps_its_entries() -> None:
    stored = values(19, np.uint16, 0, 300)
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", [256, 20, 12])
    table.add_new("LUTData", "OW", (np.arange(256, dtype="<u2")[::-1] * 16).tobytes())
    picture = shown(stored, VOILUTSequence=Sequence([table]), WindowCenter=10, WindowWidth=5)
    expected = (255 - np.clip(stored.astype(int) - 20, 0, 255)) * 16 / 4095 * 255
    assert np.abs(picture - expected).max() <= 0.5 + 1e-6


def test_a_range_of_padding_is_black() -> None:
    stored = values(20, np.uint16, 100, 1000)
    stored[:4] = np.arange(4, dtype=np.uint16)[:, None] + 5
    picture = shown(stored, PixelPaddingValue=5, PixelPaddingRangeLimit=8)
    assert not picture[:4].any()
    np.testing.assert_array_equal(picture[4:], to_grey(stored[4:]))


@pytest.mark.parametrize("limit", [None, 63540])
def test_padding_that_is_written_without_its_sign_beside_signed_pixels_is_black(limit: int | None) -> None:
    stored = values(20, np.int16, 100, 1000)
    padded = stored.copy()
    padded[:4] = -2000 if limit is None else np.arange(-2000, -1996)[:, None]
    dataset = dataset_of(padded)
    dataset.add_new("PixelPaddingValue", "US", 63536)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", "US", limit)
    picture = read_slices(written(dataset))[0].pixels
    assert not picture[:4].any()
    np.testing.assert_array_equal(picture[4:], to_grey(stored[4:]))


@pytest.mark.parametrize("spacing", [[1e-9, 1], [1, 1e-9], [1e-300, 1e300], [60, 1]])
def test_an_absurd_spacing_costs_no_single_slice(spacing: list[float]) -> None:
    stored = values(20)
    dataset = dataset_of(stored, ImagePositionPatient=[0, 0, 0])
    dataset.PixelSpacing = [f"{side:.0e}" for side in spacing]
    np.testing.assert_array_equal(read_slices(written(dataset))[0].pixels, to_grey(stored))
    dataset.PixelSpacing = [2, 1]  # oblong, as scanners make them
    assert read_slices(written(dataset))[0].pixels.shape == (2 * SHAPE[0], SHAPE[1])


@pytest.mark.parametrize("logger", ["pydicom", "pydicom.pixels.decoders.base"])
def test_no_logger_of_pydicom_is_heard_while_a_file_is_read(logger: str, caplog: pytest.LogCaptureFixture) -> None:
    with quiet:
        logging.getLogger(logger).error("Doe^Jane")
    assert not caplog.records
    logging.getLogger(logger).error("afterwards")
    assert len(caplog.records) == 1


# --- countless elements ----------------------------------------------------------------------------------


def element(tag: int, kind: bytes, value: bytes, *, closed: bool = True) -> bytes:
    """One in Explicit VR Little Endian; a sequence may be left without a length."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind
    if kind not in {b"SQ", b"UN"}:
        return head + struct.pack("<H", len(value)) + value
    if closed:
        return head + struct.pack("<2xL", len(value)) + value
    return head + struct.pack("<2xL", 0xFFFFFFFF) + value + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def item(content: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


TABLES, FRAMES, WINDOWS = 0x00283010, 0x52009230, 0x00289132  # sequences
COUNTLESS = element(0x00280000, b"LO", b"") * 5000


def with_elements(added: bytes) -> bytes:
    """An image with these between its header and its pixels."""
    blob = written(dataset_of(values(24)))
    at = blob.index(b"\xe0\x7f\x10\0")
    return blob[:at] + added + blob[at:]


@pytest.mark.parametrize(
    "added",
    [
        COUNTLESS,
        element(TABLES, b"SQ", item(COUNTLESS)),
        element(TABLES, b"UN", item(COUNTLESS)),
        element(TABLES, b"SQ", item(COUNTLESS), closed=False),
        element(TABLES, b"SQ", item(b"") * 5000),
        element(0x00400275, b"SQ", item(COUNTLESS), closed=False),  # one that is not used
        element(FRAMES, b"SQ", item(element(WINDOWS, b"SQ", item(element(TABLES, b"SQ", item(COUNTLESS)))))),
        element(FRAMES, b"SQ", item(element(TABLES, b"SQ", item(b""))) * 2000),
    ],
)
def test_countless_elements_are_refused_before_they_take_memory(added: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("braincam.images.elements.READS", 2000)
    blob = with_elements(added)
    with pytest.raises(ImageError, match="of fewer elements, got far too many; export"):
        read_slices(blob, Reading(sizes=SizeLimits(slices=4)))
    assert read_header(blob) is None


def test_a_number_and_a_table_of_megabytes_and_a_bottomless_sequence_are_refused_by_name() -> None:
    refused(with_elements(element(0x00281050, b"UN", b"1\\" * 9000)), "16,384 bytes in WindowCenter, got 18,000")
    table = element(0x00283006, b"UN", bytes(300_000))
    refused(with_elements(element(TABLES, b"SQ", item(table))), "262,144 bytes in LUTData, got 300,000")
    refused(with_elements(element(TABLES, b"SQ", item(bytes(2**22)))), "bytes in VOILUTSequence, got 4,194,312")
    nested = b""
    for _ in range(10):
        nested = element(TABLES, b"SQ", item(nested))
    refused(with_elements(nested), "at most 8 sequences inside each other")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("closed", [True, False])
def test_an_enhanced_file_may_say_hundreds_of_things_of_each_of_many_frames(syntax: UID, closed: bool) -> None:
    count = 60
    stored = np.random.default_rng(25).integers(0, 4000, (count, 16, 16), np.uint16)
    dataset = enhanced(stored, list(range(count)))
    dataset.file_meta.TransferSyntaxUID = syntax
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        private = Dataset()
        for number in range(150):  # of the maker
            private.add_new((0x2005, 0x1000 + number), "LO", str(number))
        frame.add_new((0x2005, 0x140F), "SQ", Sequence([private]))
    dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = not closed
    slices = read_slices(written(dataset), Reading(sizes=SizeLimits(slices=count)))
    assert len(slices) == count
    assert slices[0].volume is not None
    assert slices[0].volume.grid is not None
    rescaled = stored[7] * 8.0 + 10
    np.testing.assert_array_equal(slices[7].pixels, stretch(rescaled, 500 * 8 + 10 - 4000, 500 * 8 + 10 + 4000 - 1))


# --- compressed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("syntax", "plugin"), [(JPEG2000Lossless, "openjpeg"), (JPEGLSLossless, "jpeg_ls")])
def test_lossless_compression_does_not_show(syntax: UID, plugin: str) -> None:
    pytest.importorskip(plugin, reason="needs the extra `dicom`")
    stored = np.random.default_rng(21).integers(0, 4000, (64, 80), np.int16)  # large enough for JPEG 2000's levels
    dataset = dataset_of(stored)
    dataset.compress(syntax)
    np.testing.assert_array_equal(read_slices(written(dataset))[0].pixels, to_grey(stored))


def test_lossless_jpeg_does_not_show(tmp_path: Path) -> None:
    gdcm = pytest.importorskip("gdcm", reason="needs the extra `dicom`")
    stored = values(22, np.int16)
    (tmp_path / "plain.dcm").write_bytes(written(dataset_of(stored)))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(tmp_path / "plain.dcm"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "packed.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(tmp_path / "packed.dcm").file_meta.TransferSyntaxUID == JPEGLosslessSV1
    np.testing.assert_array_equal(read_slices(tmp_path / "packed.dcm")[0].pixels, to_grey(stored))


def packed(frames: list[bytes], shape: tuple[int, ...], syntax: UID, fragments: int = 1, table: bool = True) -> Dataset:
    """A data set of 8-bit zeros by its header, around these compressed frames."""
    dataset = dataset_of(np.zeros(shape, np.uint8))
    dataset.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=table)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def frame_of(pixels: np.ndarray, kind: str = "JPEG2000", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("boxes", [True, False])
def test_compressed_frames_may_come_in_fragments_with_or_without_a_table(
    table: bool, fragments: int, boxes: bool
) -> None:
    stored = np.random.default_rng(23).integers(0, 256, (2, 64, 80), np.uint8)
    frames = [frame_of(frame, no_jp2=not boxes) for frame in stored]
    slices = read_slices(written(packed(frames, stored.shape, JPEG2000Lossless, fragments, table)))
    np.testing.assert_array_equal([item.pixels for item in slices], stored)


@pytest.mark.parametrize(
    ("frame", "syntax"),
    [
        (frame_of(np.zeros((64, 400), np.uint8), no_jp2=True), JPEG2000Lossless),
        (frame_of(np.zeros((64, 400), np.uint8)), JPEG2000Lossless),
        (frame_of(np.zeros((64, 400), np.uint8), "JPEG"), JPEGBaseline8Bit),
        (frame_of(np.zeros((64, 400), np.uint8), "JPEG"), JPEG2000Lossless),  # Pillow takes it here, too
        (
            b"\xff\xd8\0\xff\xff\xfe\0\x04\xff\xc0\xff\xc3\0\x0b\x08\0\x40\x01\x90\x01\1\x11\0",
            JPEGLosslessSV1,
        ),  # for GDCM
    ],
)
def test_a_frame_of_another_size_than_the_header_is_refused_undecoded_wherever_it_stands(
    frame: bytes, syntax: UID, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Dataset] = []
    monkeypatch.setattr("braincam.images.dicom._decoded", decoded.append)
    true = frame_of(np.zeros((64, 80), np.uint8), no_jp2=True)
    for frames in ([frame], [true, frame]):
        shape = (len(frames), 64, 80)
        refused(packed(frames, shape, syntax), "pixels of 80 x 64 x 1, as the header says, got 400 x 64 x 1")
    assert not decoded


def test_more_frames_than_the_header_says_are_refused_undecoded() -> None:
    frame = frame_of(np.zeros((64, 80), np.uint8), no_jp2=True)
    refused(packed([frame] * 3, (64, 80), JPEG2000Lossless), "expected as many frames as the header says, 1, got more")


@pytest.mark.parametrize("frame", [b"\xff\xd8", b"\xff\x4f\xff\x51\0", b"\xff\xd8\xff\xda", b"\xff\xd8\xff\xc0\0"])
def test_a_frame_that_does_not_say_its_size_cannot_be_decoded(frame: bytes) -> None:
    refused(packed([frame], (64, 80), JPEG2000Lossless), "cannot be decoded (ValueError)")
    refused(packed([frame], (64, 80), RLELossless), "cannot be decoded (ValueError)")


def test_runs_that_unpack_to_more_than_the_picture_are_refused_and_padded_ones_are_not() -> None:
    head = np.array([1, 64, *[0] * 14], "<u4").tobytes()
    segment = b"\x80\x03\1\2\3\4" + b"\x81\7" * 40  # nothing, four bytes as they are, 40 x 128 of one
    for more in (b"", b"\x81\7" * 100):
        (item,) = read_slices(written(packed([head + segment + more], (64, 80), RLELossless)))
        assert [*item.pixels[0, :5]] == [1, 2, 3, 4, 7]
        assert (item.pixels.reshape(-1)[4:] == 7).all()
    refused(packed([head + segment + b"\x81\7" * 140_000], (64, 80), RLELossless), "segments of 5,120 bytes")
    refused(packed([head + b"\x80" * 2**26], (64, 80), RLELossless), "segments of 5,120 bytes")


def test_a_modality_table_comes_before_everything_else() -> None:
    stored = values(3, np.uint8, 0, 16)
    table = Dataset()
    table.LUTDescriptor = [16, 0, 16]
    table.LUTData = np.arange(1500, -1, -100, "<u2").tobytes()
    picture = shown(stored, ModalityLUTSequence=Sequence([table]))
    np.testing.assert_array_equal(picture, to_grey(15 - stored.astype(np.int32)))


def test_a_table_for_signed_values_begins_below_zero() -> None:
    stored = values(3, np.int16, -2, 2)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 65534, 8])
    table.LUTData = np.array([0, 85, 170, 255], "<u2").tobytes()
    np.testing.assert_array_equal(shown(stored, VOILUTSequence=Sequence([table])), (stored + 2) * 85)


@pytest.mark.parametrize("least", [-2, 0])
def test_whether_a_table_begins_below_zero_does_not_hang_on_the_pixels_of_a_slice(least: int) -> None:
    stored = values(3, np.int16, least, 2)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 65534, 8])
    table.LUTData = np.array([0, 85, 170, 255], "<u2").tobytes()
    np.testing.assert_array_equal(shown(stored, VOILUTSequence=Sequence([table])), (stored + 2) * 85)


def test_a_table_of_an_odd_number_of_bytes_is_one_of_bytes() -> None:
    """Elements have an even length, so such a table ends in one byte more."""
    stored = values(3, np.uint8, 0, 255)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [255, 0, 8])
    table.add_new("LUTData", "OW", np.arange(254, -1, -1, np.uint8).tobytes() + b"\0")
    np.testing.assert_array_equal(shown(stored, VOILUTSequence=Sequence([table])), 254 - stored.clip(0, 254))


def test_no_module_in_the_working_folder_is_run_by_the_decoders_process(tmp_path: Path) -> None:
    (tmp_path / "pickle.py").write_text("open('ran', 'w')")
    (tmp_path / "numpy.py").write_text("open('ran', 'w')")
    code = "from braincam.images import apart; one = apart._running(); one.stdin.close(); one.wait(60)"
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_file_without_its_preamble_is_named_and_not_passed_over(syntax: UID, tmp_path: Path) -> None:
    dataset, content = dataset_of(values(3)), io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(content, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=True, enforce_file_format=False)
    bare = content.getvalue()
    bare = bare[132:] if bare[128:132] == b"DICM" else bare
    refused(bare, "without the 132 bytes that begin it")
    (tmp_path / "IM0001").write_bytes(bare)
    assert looks_readable(tmp_path / "IM0001")
    (tmp_path / "notes").write_bytes(b"\x08\x00" + bytes(200))
    assert not looks_readable(tmp_path / "notes")


@pytest.mark.parametrize("data", [b"", None])
def test_an_empty_table_is_refused(data: bytes | None) -> None:
    table = Dataset()
    table.LUTDescriptor = [1, 0, 8]
    if data is not None:
        table.LUTData = data
    with pytest.raises(ImageError, match="expected a VOI table with entries"):
        shown(values(3), VOILUTSequence=Sequence([table]))


def test_pixels_of_more_bytes_than_a_file_may_have_are_refused() -> None:
    dataset = dataset_of(values(3))
    dataset.Rows = 200
    with pytest.raises(ImageError, match="expected at most 5,000 bytes of pixels, got 9,600; split"):
        read_slices(written(dataset), Reading(sizes=SizeLimits(bytes=5000)), name="it")


def test_a_compression_that_no_decoder_is_known_for_is_named() -> None:
    dataset = dataset_of(values(3))
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset.PixelData = encapsulate([b"\0\0"])
    with pytest.raises(ImageError, match="expected uncompressed DICOM or an installed decoder, got MPEG2"):
        read_slices(written(dataset))


@pytest.mark.parametrize(("second", "known"), [([1, 0, 0], False), ([0, 1, 0], True)])
def test_directions_that_span_no_plane_count_as_unknown(second: list[int], known: bool) -> None:
    dataset = dataset_of(values(3), ImageOrientationPatient=[1, 0, 0, *second], ImagePositionPatient=[0, 0, 0])
    plane = plane_of(pydicom.dcmread(io.BytesIO(written(dataset))))
    assert plane.position is not None
    assert (plane.normal is not None) == known


def test_files_with_a_window_take_no_part_in_a_common_scale() -> None:
    assert (
        rescaled_values(io.BytesIO(written(dataset_of(values(3), WindowCenter=40, WindowWidth=80))), SizeLimits())
        is None
    )
    found = rescaled_values(io.BytesIO(written(dataset_of(values(3), RescaleSlope=2))), SizeLimits())
    assert found is not None
    np.testing.assert_array_equal(found[0], values(3)[::4, ::4] * 2)
