"""What is fuzzed: for every format some sound files of synthetic scans, and the reader that a user's file would meet.

A reader returns when it has a good answer, raises BraincamError when it refuses, and anything else is a finding.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from braincam.dataset.manifest import Manifest, Slice, with_patients
from braincam.dataset.phantom import write_phantom
from braincam.dataset.phantom_volume import make_volume, write_volume
from braincam.images.reader import read_slices
from braincam.model_file.card import METADATA_KEY

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from dicom_files import dataset_of, written

SIDE = 48


@dataclass(frozen=True)
class Format:
    """One kind of file."""

    ending: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], None]


@functools.cache
def heads() -> list[np.ndarray]:
    """Four synthetic slices (48, 48) uint8, one of each class."""
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder), patients=4, slices_per_patient=1, size=SIDE)
        return [np.array(Image.open(path)) for path in sorted(Path(folder, "data").rglob("*.png"))]


def wide() -> np.ndarray:
    """A slice in 12 of 16 bits."""
    return heads()[0].astype(np.uint16) * 16


def saved(picture: Image.Image, kind: str, **how: object) -> bytes:
    """The bytes of a picture file."""
    out = io.BytesIO()
    picture.save(out, kind, **how)  # type: ignore[arg-type]
    return out.getvalue()


def colour() -> Image.Image:
    """Three heads as the channels of one picture."""
    return Image.merge("RGB", [Image.fromarray(head) for head in heads()[:3]])


def png_seeds() -> list[bytes]:
    """Grey, 16 bit, colour, palette, alpha, one bit."""
    grey = Image.fromarray(heads()[0])
    return [
        saved(grey, "PNG"),
        saved(Image.fromarray(wide()), "PNG"),
        saved(colour(), "PNG"),
        saved(grey.convert("P"), "PNG", transparency=3),
        saved(Image.merge("LA", (grey, grey)), "PNG"),
        saved(grey.convert("1"), "PNG"),
        saved(grey, "PNG", save_all=True, append_images=[Image.fromarray(heads()[1])]),
    ]


def jpeg_seeds() -> list[bytes]:
    """Grey, colour, progressive, CMYK, turned by EXIF."""
    grey = Image.fromarray(heads()[1])
    turned = Image.Exif()
    turned[274] = 6
    return [
        saved(grey, "JPEG"),
        saved(colour(), "JPEG", quality=60),
        saved(grey, "JPEG", progressive=True),
        saved(colour().convert("CMYK"), "JPEG"),
        saved(grey, "JPEG", exif=turned.tobytes(), comment=b"synthetic"),
    ]


def tiff_seeds() -> list[bytes]:
    """Eight and 16 bit, floats, several pages, compressed in each way, BigTIFF."""
    grey, deep = Image.fromarray(heads()[2]), Image.fromarray(wide())
    return [
        saved(grey, "TIFF"),
        saved(deep, "TIFF"),
        saved(Image.fromarray(wide().astype(np.float32)), "TIFF"),
        saved(grey, "TIFF", save_all=True, append_images=[deep, colour()]),
        saved(grey, "TIFF", big_tiff=True),
        *(saved(colour(), "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        saved(grey.convert("1"), "TIFF", compression="group4"),
    ]


def dicom_seeds() -> list[bytes]:
    """Each plain syntax, windows, frames, colour, a table, JPEG inside."""
    from pydicom.dataset import Dataset
    from pydicom.encaps import encapsulate
    from pydicom.sequence import Sequence
    from pydicom.uid import (
        ExplicitVRBigEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
        JPEGLSLossless,
        RLELossless,
    )

    place = {"ImagePositionPatient": [0, 0, 1], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 2]}
    lookup = dataset_of(wide())
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], np.arange(0, 65536, 256, dtype="<u2").tobytes()
    table["LUTDescriptor"].VR = "US"
    lookup.VOILUTSequence = Sequence([table])
    packed = dataset_of(heads()[0], PlanarConfiguration=0)
    packed.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    packed.PixelData = encapsulate([jpeg_seeds()[0]])
    packed["PixelData"].is_undefined_length = True
    return [
        written(dataset_of(wide(), WindowCenter=1000, WindowWidth=[900, 2], RescaleSlope=2, Modality="MR", **place)),
        written(dataset_of(wide(), ImplicitVRLittleEndian, PixelPaddingValue=0)),
        written(dataset_of(wide().astype(np.int16), ExplicitVRBigEndian)),
        written(dataset_of(np.stack([wide(), wide()]), NumberOfFrames=2)),
        written(dataset_of(np.stack(heads()[:3], 2))),
        written(lookup),
        written(packed),
        lossless_jpeg(written(dataset_of(wide().astype(np.int16)))),
        *(compressed(syntax) for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless)),
    ]


def compressed(syntax: str) -> bytes:
    """A slice in another syntax."""
    dataset = dataset_of(np.tile(wide(), (2, 2)))  # large enough for JPEG 2000's levels
    dataset.compress(syntax)
    return written(dataset)


def lossless_jpeg(plain: bytes) -> bytes:
    """The same file in lossless JPEG, which only GDCM writes and reads."""
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "plain.dcm", Path(folder) / "packed.dcm"
        source.write_bytes(plain)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(source))
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        if not reader.Read():
            raise ValueError("GDCM does not read its own input")
        change.SetInput(reader.GetImage())
        change.Change()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()
        return target.read_bytes()


def nifti_seeds() -> list[bytes]:
    """Either version and byte order, floats, a series, packed."""
    import nibabel as nib

    pixels, _ = make_volume("glioma", 0, slices=6, size=24)
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    one = nib.Nifti1Image(pixels.T.astype(np.int16), affine)
    big = nib.Nifti1Image(pixels.T.astype(">f4"), affine, header=nib.Nifti1Header(endianness=">"))
    two = nib.Nifti2Image(np.stack([pixels.T, pixels.T], 3), affine)
    with tempfile.TemporaryDirectory() as folder:
        write_volume(Path(folder) / "v.nii.gz", pixels)
        packed = (Path(folder) / "v.nii.gz").read_bytes()
    plain = [image.to_bytes() for image in (one, big, two)]
    return [*plain, packed, gzip.compress(plain[1], 1, mtime=0)]


def read_picture(path: Path) -> None:
    """A picture of any format."""
    slices = read_slices(path)
    good = slices and all(item.pixels.dtype == np.uint8 and item.pixels.ndim == 2 for item in slices)
    if not good:
        raise AssertionError("neither slices nor an error")


def folder() -> Manifest:
    """A labelled folder on paper; nothing is read from it."""
    return Manifest(
        Path("data"), ("a", "b"), tuple(Slice(f"{label}/{k}.png", label) for label in "ab" for k in range(3))
    )


def table_seeds() -> list[bytes]:
    """Patients and splits: plain, with a byte order mark, quoted, with Windows' line ends."""
    rows = [
        (item.path, item.label, f"p{k % 3}", f"g{k % 3}", k % 2, "0f" * 32) for k, item in enumerate(folder().slices)
    ]
    text = "path,label,patient,group,fold,sha256\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    quoted = "".join('"' + line.replace(",", '","') + '"\n' for line in text.splitlines())
    return [text.encode(), b"\xef\xbb\xbf" + text.encode(), quoted.encode(), text.replace("\n", "\r\n").encode()]


def read_tables(path: Path) -> None:
    """The table as one of patients, then as one of folds."""
    from braincam.dataset.split import read_split
    from braincam.errors import DataError

    refused = None
    for read in (lambda: with_patients(folder(), path), lambda: read_split(path, folder())):
        try:
            read()
        except DataError as error:
            refused = error
    if refused:
        raise refused


def toml_seeds() -> list[bytes]:
    """The recipes that ship, and what TOML can hold besides."""
    from braincam.training.config import TrainConfig, shipped

    texts = [shipped(name).read_text(encoding="utf-8") for name in ("demo", "specification")]
    odd = 'seed = 0x10\nmean = [0.1, 0.2]\n[table]\na = {b = 1979-05-27T07:32:00Z}\n[[list]]\nc = """\nd"""\n'
    return [text.encode() for text in (*texts, TrainConfig().to_toml(), odd)]


def read_recipe(path: Path) -> None:
    """A recipe for training."""
    from braincam.training.config import TrainConfig, read_config

    config = read_config(path)
    if not isinstance(config, TrainConfig):
        raise AssertionError("no config")


def card_of(**changes: object) -> str:
    """The packaged model's card, without its lists of hashes."""
    from braincam.model_file.zoo import ModelFile, packaged

    facts = json.loads(ModelFile(packaged() / "default.onnx").card().to_json())
    return json.dumps(facts | {"seen_slices": ["0" * 12], "seen_groups": []} | changes)


def onnx_seeds() -> list[bytes]:
    """A graph of a few nodes with the ends of a model file, and the packaged model."""
    from onnx import TensorProto, helper, numpy_helper

    from braincam.model_file.zoo import packaged

    ends = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W"])]
    outs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("probabilities", ["N", 4]), ("cam", ["N", 4, 8, 8]), ("outlier_score", ["N"]))
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=1),
        helper.make_node("Unsqueeze", ["x", "one"], ["x4"]),
        helper.make_node("Conv", ["x4", "w"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["y", "", "", "size"], ["cam"], mode="linear"),
        helper.make_node("ReduceMean", ["cam", "axes"], ["z"], keepdims=0),
        helper.make_node("Softmax", ["z"], ["probabilities"]),
        helper.make_node("ReduceMax", ["z", "one"], ["outlier_score"], keepdims=0),
    ]
    values = {
        "one": np.array([1]), "axes": np.array([2, 3]), "size": np.array([1, 4, 8, 8]),
        "w": np.random.default_rng(0).normal(0, 0.01, (4, 1, 3, 3)).astype(np.float32),
    }  # fmt: skip
    graph = helper.make_graph(nodes, "g", ends, outs, [numpy_helper.from_array(v, k) for k, v in values.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card_of(outlier_threshold=1e9)
    small: bytes = model.SerializeToString()
    return [small] * 6 + [(packaged() / "default.onnx").read_bytes()]


def read_onnx(path: Path) -> None:
    """A model file, asked about a slice, and listed."""
    from braincam.predict import Predictor
    from braincam.printing import print_model_scores

    predictor = Predictor(path, threads=1)
    (answer,) = predictor.predict(heads()[0])
    json.dumps(answer.to_json(), allow_nan=False)
    json.dumps(predictor.card.summary(), allow_nan=False)
    # of the errors, `braincam models` catches these
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(KeyError, TypeError, ValueError):
        print_model_scores(predictor.card)


def safetensors_seeds() -> list[bytes]:
    """An untrained network of the smallest size, with a card."""
    import torch
    from safetensors.torch import save

    from braincam.network.build import build_network
    from braincam.training.config import TrainConfig

    recipe = TrainConfig(network="tiny", image_size=32)
    network = build_network(recipe.network_facts(4))
    from dataclasses import asdict

    features = network.read(torch.zeros(1, 1, 32, 32)).features.shape[1]
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    tensors |= {"centres": torch.zeros(4, 3), "whitening": torch.zeros(features, 3)}
    preprocess = {"image_size": 32, "frame": True, "subtract_black": True, "mean": [0.18], "std": [0.19]}
    card = card_of(network=json.loads(json.dumps(asdict(network.config))), preprocess=preprocess)
    return [save(tensors, metadata={METADATA_KEY: card})]


def read_safetensors(path: Path) -> None:
    """A model to train or export from."""
    from braincam.model_file.export import load_model

    load_model(path)


# put in here and there: what the readers of each format look for
NUMBERS = (b"0", b"-1", b"1e999", b"nan", b"inf", b"9" * 400, b"9" * 5000, b"true", b"''", b"null")
WORDS: dict[str, tuple[bytes, ...]] = {
    "png": (b"IHDR", b"IDAT", b"tRNS", b"iCCP", b"acTL", b"fdAT", b"zTXt"),
    "jpeg": (b"\xff\xc2", b"\xff\xdd", b"\xff\xe1Exif\0\0", b"\xff\xc0", b"MPF\0"),
    "tiff": (b"\x00\x01", b"\x01\x01", b"\x02\x01", b"\x03\x01", b"\x42\x01"),
    "dicom": (b"\x28\x00\x10\x00US", b"\x28\x00\x08\x00IS", b"SQ", b"UN", b"\xfe\xff\x00\xe0"),
    "nifti": (b"n+1\0", b"n+2\0", b"\x1f\x8b", b"\x7f\xc0\0\0"),
    "csv": (b'"', b",", b"\0", b"\r", b"\xff", "\N{ARABIC-INDIC DIGIT THREE}".encode(), b"x" * 140_000, *NUMBERS),
    "toml": (b"[" * 3000, b"{a=" * 2000, b"[[", b'"""', b"=", b"\\u", b"a." * 3000, *NUMBERS),
    "onnx": (b"location", b"ConstantOfShape", b"Loop", b'"classes":', *NUMBERS),
    "safetensors": (b'"shape":[', b'"F64"', b'"data_offsets":', *NUMBERS),
}
FORMATS: dict[str, Format] = {
    "png": Format(".png", png_seeds, read_picture),
    "jpeg": Format(".jpg", jpeg_seeds, read_picture),
    "tiff": Format(".tif", tiff_seeds, read_picture),
    "dicom": Format(".dcm", dicom_seeds, read_picture),
    "nifti": Format(".nii", nifti_seeds, read_picture),
    "csv": Format(".csv", table_seeds, read_tables),
    "toml": Format(".toml", toml_seeds, read_recipe),
    "onnx": Format(".onnx", onnx_seeds, read_onnx),
    "safetensors": Format(".safetensors", safetensors_seeds, read_safetensors),
}
