"""DICOM files made on the spot: one slice, and a series cut from a volume in any direction."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    generate_uid,
)

from braincam.images.quiet import quiet

NAME, ID = "Doe^Jane", "4711"


def dataset_of(stored: np.ndarray, syntax: str = ExplicitVRLittleEndian, **attributes: object) -> Dataset:
    """An MR image around stored values (H, W), (frames, H, W) or (H, W, 3)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.PatientName = NAME
    dataset.PatientID = ID
    colour = stored.ndim == 3 and stored.shape[-1] == 3
    dataset.Rows, dataset.Columns = stored.shape[:2] if colour else stored.shape[-2:]
    if stored.ndim == 3 and not colour:
        dataset.NumberOfFrames = len(stored)
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = stored.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OW" if stored.dtype.itemsize > 1 else "OB"
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def written(dataset: Dataset) -> bytes:
    """The bytes of the file."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def write_series(
    folder: Path,
    planes: np.ndarray,
    *,
    along_row: tuple[float, float, float] = (1, 0, 0),
    down_column: tuple[float, float, float] = (0, 1, 0),
    origin: tuple[float, float, float] = (-30, -40, 50),
    step: tuple[float, float, float] | None = None,
    spacing: tuple[float, float] = (1.5, 1.25),
    seed: int = 0,
    series: str | None = None,
    **attributes: object,
) -> list[Path]:
    """Write planes (n, H, W) as a series, plane k at origin + k * step (LPS, mm), under names in random order.

    Returns the paths in the order of the planes. spacing: between rows, between columns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(along_row, down_column)
    move = np.array(step if step is not None else 4 * normal)
    names = np.random.default_rng(seed).permutation(len(planes))
    series = series or generate_uid(entropy_srcs=[str(seed), str(folder)])
    paths = []
    for k, plane in enumerate(planes):
        path = folder / f"IM{names[k]:04d}"
        dataset = dataset_of(
            plane,
            SeriesInstanceUID=series,
            SOPInstanceUID=generate_uid(entropy_srcs=[str(path)]),
            InstanceNumber=int(names[k]),
            Modality="MR",
            ImagePositionPatient=[f"{x:.6f}" for x in np.array(origin) + k * move],
            ImageOrientationPatient=[f"{x:.9f}" for x in (*along_row, *down_column)],
            PixelSpacing=list(spacing),
            **attributes,
        )
        path.write_bytes(written(dataset))
        paths.append(path)
    return paths


def enhanced(stored: np.ndarray, order: list[int], **shared: object) -> Dataset:
    """Frames lying at 4 mm steps in the given order, with their places and windows frame by frame."""
    dataset = dataset_of(stored, SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", Modality="MR")
    group = Dataset()
    group.PlaneOrientationSequence = Sequence([Dataset()])
    group.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    group.PixelMeasuresSequence = Sequence([Dataset()])
    group.PixelMeasuresSequence[0].PixelSpacing = [1, 1]
    dataset.SharedFunctionalGroupsSequence = Sequence([group])
    frames = []
    for number, place in enumerate(order):
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([Dataset()])
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 4 * place]
        frame.PixelValueTransformationSequence = Sequence([Dataset()])
        frame.PixelValueTransformationSequence[0].RescaleSlope = number + 1
        frame.PixelValueTransformationSequence[0].RescaleIntercept = 10
        frame.FrameVOILUTSequence = Sequence([Dataset()])
        frame.FrameVOILUTSequence[0].WindowCenter = 500 * (number + 1) + 10
        frame.FrameVOILUTSequence[0].WindowWidth = 1000 * (number + 1)
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return dataset


def write_index(path: Path, names: list[list[str]]) -> None:
    """A DICOMDIR of a patient and its images; pydicom's own maker of them leaves temporary folders behind."""
    index = Dataset()
    index.file_meta = FileMetaDataset()
    index.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    index.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5"
    patient = Dataset()
    patient.DirectoryRecordType, patient.PatientName = "PATIENT", NAME
    records = [patient]
    for name in names:
        record = Dataset()
        with quiet:  # about names that are not allowed
            record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", name
        records.append(record)
    index.DirectoryRecordSequence = Sequence(records)
    path.write_bytes(written(index))
