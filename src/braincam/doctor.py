"""What is installed, what would be used, and what each verb lacks."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

from braincam import __version__
from braincam.cache import LIMIT, VARIABLE, cache_folder, size_of
from braincam.errors import WITHOUT_TORCH, BraincamError, install
from braincam.model_file.zoo import find_model
from braincam.threads import usable_cores

RUNTIME = ("numpy", "PIL", "onnxruntime", "pydicom", "nibabel", "jinja2", "platformdirs", "tqdm")
AUDIT = ("pandas", "matplotlib", "sklearn", "scipy", "threadpoolctl")
TRAIN = (*AUDIT, "torch", "torchvision", "safetensors", "filelock", "onnx", "onnxscript")
SERVE = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
DISTRIBUTION = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "openjpeg": "pylibjpeg-openjpeg",
    "jpeg_ls": "pyjpegls",
    "gdcm": "python-gdcm",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}
DICOM = ("pylibjpeg", "openjpeg", "jpeg_ls", "gdcm")
NEEDS = {
    "predict": (),
    "predict, compressed DICOM": DICOM,
    "models, page, doctor": (),
    "phantom, patients": (),
    ", ".join(WITHOUT_TORCH): AUDIT,
    "train, crossval, export, demo": TRAIN,
    "predict --cam NAME": (*TRAIN, "torchcam"),
    "serve": SERVE,
}


def report() -> str:
    """A page of plain text for people and for bug reports; nothing in it names a user or a scan."""
    lines = [
        f"braincam {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "",
    ]
    lines.append("libraries")
    lines += [f"  {name:<18}{_version(name)}" for name in (*RUNTIME, *DICOM, *TRAIN, "torchcam", *SERVE)]
    lines += ["", "would be used"]
    lines.append(f"  {'predict':<18}cpu, {usable_cores()} threads, model {_default_model()}")
    lines.append(f"  {'train':<18}{_training_device()}")
    lines.append(f"  {'cache':<18}{_cache()}")
    lines += ["", "verbs"]
    for verb, needed in NEEDS.items():
        missing = [name for name in (*RUNTIME, *needed) if find_spec(name) is None]
        extra = "cam" if "torchcam" in needed else "audit" if needed == AUDIT else "train"
        extra = "dicom" if needed == DICOM else "serve" if needed == SERVE else extra
        state = "installed" if not missing else f"missing {', '.join(missing)}; {install(extra)}"
        lines.append(f"  {verb:<32}{state}")
    return "\n".join(lines)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _default_model() -> str:
    try:
        model = find_model()
        return f"{model.card().name} ({len(model.content) / 1e6:.1f} MB)"
    except BraincamError as error:
        return f"none: {error}"


def _cache() -> str:
    folder = cache_folder()
    if folder is None:
        return f"off ({VARIABLE}=off)"
    home = Path.home()
    shown = Path("~") / folder.relative_to(home) if folder.is_relative_to(home) else folder
    return (
        f"{shown}, {size_of(folder) / 1e9:.1f} of at most {LIMIT / 1e9:.0f} GB ({VARIABLE}=DIR moves it, off ends it)"
    )


def _training_device() -> str:
    if find_spec("torch") is None:
        return f"torch is not installed; {install('train')}"
    from braincam.training.device import describe_device, pick_device, pick_precision

    device = pick_device("auto")
    used = f"{describe_device(device)}, {str(pick_precision('auto', device)).removeprefix('torch.')}"
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        used += "; an NVIDIA driver is here, but this PyTorch finds no GPU: install its build for CUDA"
    return used
