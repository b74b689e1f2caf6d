"""A trained safetensors model → the ONNX file to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from braincam.errors import ModelFileError
from braincam.model_file.export import export_onnx, load_model


def export(model: Path | str, out: Path | str) -> dict[str, Any]:
    """Write the ONNX file of a safetensors model (or of a run folder that holds one), checked against PyTorch first.

    Raises:
        ModelFileError: the model cannot be read, `out` is no .onnx name, or the graph disagrees with PyTorch.
    """
    model, out = Path(model), Path(out)
    source = model / "model.safetensors" if model.is_dir() else model
    if source.suffix == ".onnx":
        twin = source.with_suffix(".safetensors")
        raise ModelFileError(f"{source}: is an ONNX file already; expected its trainable twin, such as {twin}")
    if out.suffix != ".onnx":
        raise ModelFileError(f"{out}: expected a name that ends in .onnx")
    deployed, card = load_model(source)
    difference = export_onnx(out, deployed, card)
    return {
        "out": str(out),
        "bytes": out.stat().st_size,
        "parameters": card.parameters,
        "largest_probability_difference": difference,
    }
