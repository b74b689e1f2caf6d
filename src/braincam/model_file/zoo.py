"""The models at hand: the one inside the package, and those in the folder named by ``BRAINCAM_MODELS``."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

import onnxruntime

from braincam.errors import ModelFileError
from braincam.model_file.card import Card
from braincam.model_file.graph import check_graph
from braincam.threads import check_threads, usable_cores

DEFAULT = "default"
MAX_BYTES = 2**30  # of a model file
MEMORY = 2 * 2**30  # bytes that graphs may take for what they compute, all sessions of a process together ...
MEMORY_PER_CORE = 2**28  # ... and so many more for each core, since a server answers as many requests at once

onnxruntime.disable_telemetry_events()  # for who loaded it before braincam could say so, and for Windows


@dataclass(frozen=True)
class ModelFile:
    """An ONNX model file on disk."""

    path: Path

    @cached_property
    def content(self) -> bytes:
        """The file's bytes.

        Raises:
            ModelFileError: it cannot be read, or is too large to be a model.
        """
        try:
            check_bytes(self.path)
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
            ModelFileError: the bytes are no ONNX model that this runtime can load, or hold what a model must not.
            ConfigError: a number of threads that no machine has cores for.
        """
        check_threads(threads)
        check_graph(self.content, str(self.path))
        _bound_memory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 4  # what it says of a bad graph stands in the error
        options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            # without its fallback, which would try the same again and print on stdout, where answers go
            return onnxruntime.InferenceSession(
                self.content, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # onnxruntime raises its own many kinds
            detail = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelFileError(f"{self.path}: expected an ONNX model, got: {detail}") from error

    def card(self, session: onnxruntime.InferenceSession | None = None) -> Card:
        """The card in the file's metadata.

        Raises:
            ModelFileError: there is none, or it is damaged.
        """
        session = session or self.session()
        try:
            metadata = session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise ModelFileError(f"{self.path}: its card is damaged ({error}); get the file anew") from error
        return Card.from_metadata(metadata, str(self.path))


def check_bytes(path: Path) -> None:
    """Refuse a file that is too large to be a model, before it is read. Raises ModelFileError, or OSError."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ModelFileError(
            f"{path}: expected a model of at most {MAX_BYTES:,} bytes, got {size:,}; give another file"
        )


@cache
def _bound_memory() -> None:
    """Once per process: a few bytes of a foreign graph may ask for any amount (`ConstantOfShape`, `Expand`, ...)."""
    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    most = onnxruntime.OrtArenaCfg({"max_mem": MEMORY + MEMORY_PER_CORE * usable_cores()})
    onnxruntime.create_and_register_allocator(where, most)


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

    A model at hand has two names: its file's, without the ending, and the one in its card, which answers carry.

    Raises:
        ModelFileError: there is none.
    """
    wanted = os.fspath(name) if name is not None else DEFAULT
    path = Path(wanted)
    if name is not None and path.is_dir() and (path / "model.onnx").is_file():
        return ModelFile(path / "model.onnx")
    if name is not None and (path / "last.ckpt").is_file():
        raise ModelFileError(
            f"{path}: holds a training that has not finished; the same braincam train with --resume goes on with it"
        )
    if name is not None and path.is_file():
        if path.suffix == ".safetensors":
            raise ModelFileError(
                f"{path}: expected a model that answers, an .onnx file, got one that is trained; give the .onnx beside "
                f"it, or make one: braincam export {path} --out model.onnx"
            )
        return ModelFile(path)
    at_hand = models()
    for model in at_hand:
        if model.path.stem == wanted:
            return model
    cards: dict[str, ModelFile] = {}
    for model in at_hand:
        with suppress(ModelFileError):  # a damaged one is nobody's
            cards.setdefault(model.card().name, model)
    if wanted in cards:
        return cards[wanted]
    names = ", ".join([*(model.path.stem for model in at_hand), *cards]) or "none"
    raise ModelFileError(
        f"{wanted}: no such model; expected an .onnx file, a run folder, or one of the models at hand ({names})"
    )
