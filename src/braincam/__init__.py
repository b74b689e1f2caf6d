"""braincam: what a brain MRI slice resembles, how sure that is, and which pixels the score came from.

Research use only. Not a medical device; not for diagnosis.

Importing this package loads neither torch nor NumPy; each name is loaded when it is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from braincam.errors import (
        BraincamError,
        ConfigError,
        DataError,
        ImageError,
        MissingDependencyError,
        ModelFileError,
        SplitError,
        TrainingError,
    )
    from braincam.model_file.card import Card
    from braincam.pipeline.audit import audit
    from braincam.pipeline.crossval import crossval
    from braincam.pipeline.evaluate import evaluate
    from braincam.pipeline.export import export
    from braincam.pipeline.prepare import split
    from braincam.pipeline.train import train
    from braincam.predict import Prediction, Predictor

# ONNX Runtime's official builds (1.29 and later) send usage to their maker, with a device number kept on disk, unless
# this is set before they are loaded. Scans are looked at here: nothing leaves the machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "BraincamError": "braincam.errors",
    "Card": "braincam.model_file.card",
    "ConfigError": "braincam.errors",
    "DataError": "braincam.errors",
    "ImageError": "braincam.errors",
    "MissingDependencyError": "braincam.errors",
    "ModelFileError": "braincam.errors",
    "Prediction": "braincam.predict",
    "Predictor": "braincam.predict",
    "SplitError": "braincam.errors",
    "TrainingError": "braincam.errors",
    "audit": "braincam.pipeline.audit",
    "crossval": "braincam.pipeline.crossval",
    "evaluate": "braincam.pipeline.evaluate",
    "export": "braincam.pipeline.export",
    "split": "braincam.pipeline.prepare",
    "train": "braincam.pipeline.train",
}

__version__ = "0.2.0"
__all__ = [
    "BraincamError",
    "Card",
    "ConfigError",
    "DataError",
    "ImageError",
    "MissingDependencyError",
    "ModelFileError",
    "Prediction",
    "Predictor",
    "SplitError",
    "TrainingError",
    "__version__",
    "audit",
    "crossval",
    "evaluate",
    "export",
    "split",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        try:
            return getattr(import_module(_HOME[name]), name)
        except ModuleNotFoundError as missing:
            raise _needs(name, missing) from missing
    raise AttributeError(f"module 'braincam' has no attribute {name!r}")


def _needs(name: str, missing: ModuleNotFoundError) -> Exception:
    """The error for a name whose libraries are not installed."""
    from braincam.errors import MissingDependencyError, extra_of, install

    how = install(extra_of(name))
    return MissingDependencyError(f"braincam.{name} needs {missing.name}, which is not installed; {how}")


def __dir__() -> list[str]:
    return __all__
