"""Does the exported graph answer as PyTorch does? Checked numerically before anything is written (torch)."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from braincam.errors import ModelFileError
from braincam.network.exportable import Deployed

SIZES = ((224, 224), (512, 512), (100, 90), (57, 300), (160, 160))
PROBABILITY_TOLERANCE = 1e-4
CAM_TOLERANCE = 1e-3
OUTLIER_TOLERANCE = 1e-3


def check_parity(model: Deployed, content: bytes, where: str) -> float:
    """Compare on smooth random slices and heads of assorted sizes; returns the largest difference in probability.

    The map's tolerance is relative to its own largest value, if that exceeds 1; the outlier score's to the score.

    Raises:
        ModelFileError: a difference is larger than the tolerance.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    largest = 0.0
    for height, width in SIZES:
        slices = pictures(height, width, random)
        with torch.inference_mode():
            ours = model(slices)
        theirs = session.run(["probabilities", "cam", "outlier_score"], {"image": slices.numpy()})
        scale = max(1.0, float(ours.cam.abs().max()))
        off_probability = float(np.abs(ours.probabilities.numpy() - theirs[0]).max())
        off_cam = float(np.abs(ours.cam.numpy() - theirs[1]).max()) / scale
        outliers = ours.outlier_score.numpy()
        off_outlier = float((np.abs(outliers - theirs[2]) / np.maximum(outliers, np.finfo(np.float32).tiny)).max())
        # written so that NaN fails
        if not (
            off_probability <= PROBABILITY_TOLERANCE and off_cam <= CAM_TOLERANCE and off_outlier <= OUTLIER_TOLERANCE
        ):
            raise ModelFileError(
                f"{where}: the exported graph differs from PyTorch at {height} x {width}: probabilities by "
                f"{off_probability:.2g} (expected at most {PROBABILITY_TOLERANCE:g}), maps by {off_cam:.2g} (at most "
                f"{CAM_TOLERANCE:g}), outlier scores by {off_outlier:.2g} (at most {OUTLIER_TOLERANCE:g}); "
                f"nothing was written. Try other versions of torch and onnxscript"
            )
        largest = max(largest, off_probability)
    return largest


def pictures(height: int, width: int, random: np.random.Generator) -> Tensor:
    """One slice that fills its canvas, then three heads, each off the centre on a dark canvas: uint8 (4, H, W).

    The darkest grey of two of them is not black: so what finds and frames heads, and what subtracts the darkest grey,
    has something to do.
    """
    coarse = torch.from_numpy(random.random((4, 1, 9, 9), dtype=np.float32))
    texture = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[:, 0].clamp(0, 1)
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)
    for number, size in enumerate((0.35, 0.6, 0.8), start=1):
        across, down = size * random.uniform(0.8, 1.0, 2)
        left, up = random.uniform(-1, 1, 2) * (1 - size)
        inside = ((x - left) / across).square() + ((y - up) / down).square() < 1
        texture[number] = torch.where(inside, 0.4 + 0.6 * texture[number], 0.0)
    black = torch.tensor([0.0, 0.0, 0.1, 0.2])[:, None, None]
    return ((black + (1 - black) * texture) * 255).round().to(torch.uint8)
