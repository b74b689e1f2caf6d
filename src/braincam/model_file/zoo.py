"""The models at hand: the one inside the package, and those in the folder named by ``BRAINCAM_MODELS``."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import onnxruntime

from braincam.errors import ModelFileError
from braincam.model_file.card import Card

DEFAULT = "default"

onnxruntime.disable_telemetry_events()  # for who loaded it before braincam could say so, and for Windows


@dataclass(frozen=True)
class ModelFile:
    """An ONNX model file on disk."""

    path: Path

    @cached_property
    def content(self) -> bytes:
        """The file's bytes.

        Raises:
            ModelFileError: it cannot be read.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{self.path}: model file cannot be read ({error.strerror})") from error

    @cached_property
    def sha256(self) -> str:
        """Hash of the file's bytes: which model exactly gave an answer."""
        return hashlib.sha256(self.content).hexdigest()

    def session(self, threads: int = 0) -> onnxruntime.InferenceSession:
        """An ONNX Runtime session on the CPU; 0 threads means as many as there are cores to use.

        Raises:
            ModelFileError: the bytes are no ONNX model that this runtime can load.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 3  # warnings about the graph are not for users
        # A session made from bytes has no folder, so a foreign graph cannot point at other files.
        try:
            return onnxruntime.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
        except ModelFileError:
            raise
        except Exception as error:  # onnxruntime raises its own many kinds
            detail = str(error).splitlines()[0]
            raise ModelFileError(f"{self.path}: expected an ONNX model, got: {detail}") from error

    def card(self, session: onnxruntime.InferenceSession | None = None) -> Card:
        """The card in the file's metadata."""
        metadata = (session or self.session()).get_modelmeta().custom_metadata_map
        return Card.from_metadata(metadata, str(self.path))


def usable_cores() -> int:
    """Cores this process may run on; containers and job schedulers often grant fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def packaged() -> Path:
    """The folder of models inside the package."""
    return Path(str(files("braincam") / "models"))


def models() -> list[ModelFile]:
    """Every ONNX file inside the package and in ``BRAINCAM_MODELS``, the default first."""
    folders = [packaged()]
    if extra := os.environ.get("BRAINCAM_MODELS"):
        folders.append(Path(extra))
    found = [ModelFile(path) for folder in folders for path in sorted(folder.glob("*.onnx"))]
    return sorted(found, key=lambda model: not is_default(model))


def is_default(model: ModelFile) -> bool:
    """Whether this is the model used when none is named."""
    return model.path == packaged() / f"{DEFAULT}.onnx"


def find_model(name: str | os.PathLike[str] | None = None) -> ModelFile:
    """The model file for a path, a run folder, or the name of a model at hand; None is the default.

    Raises:
        ModelFileError: there is none.
    """
    wanted = os.fspath(name) if name is not None else DEFAULT
    path = Path(wanted)
    if name is not None and path.is_dir() and (path / "model.onnx").is_file():
        return ModelFile(path / "model.onnx")
    if name is not None and path.is_file():
        return ModelFile(path)
    at_hand = models()
    for model in at_hand:
        if model.path.stem == wanted:
            return model
    names = ", ".join(model.path.stem for model in at_hand) or "none"
    raise ModelFileError(
        f"{wanted}: no such model; expected an .onnx file, a run folder, or one of the models at hand ({names})"
    )
