"""The state of a training on disk: tensors and plain values only, replaced in one step."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import torch

from braincam.errors import TrainingError
from braincam.files import write_bytes

FORMAT = "braincam-checkpoint-1"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them); a kill leaves the old file or the new."""
    content = io.BytesIO()  # written by us: of a full disk torch would make a RuntimeError that says nothing
    torch.save({"format": FORMAT, **state}, content)
    write_bytes(path, content.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, without unpickling code.

    Raises:
        TrainingError: there is no such file, or it is damaged or foreign.
        OSError, MemoryError: it cannot be read now; there may be nothing wrong with it.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"{path}: no checkpoint to resume from; train once without --resume") from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(
            f"{path}: expected a braincam checkpoint, got a damaged file ({type(error).__name__}); train anew"
        ) from error
    found = state.get("format") if isinstance(state, dict) else type(state).__name__
    if found != FORMAT:
        raise TrainingError(f"{path}: expected format {FORMAT}, got {found!r}; train anew")
    return cast("dict[str, Any]", state)
