"""Does the exported graph answer as PyTorch does? Checked numerically before anything is written (torch)."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch

from braincam.errors import ModelFileError
from braincam.network.exportable import Deployed

SIZES = ((224, 224), (512, 512), (100, 90), (57, 300), (160, 160))
PROBABILITY_TOLERANCE = 1e-4
CAM_TOLERANCE = 1e-3
OUTLIER_TOLERANCE = 1e-3


def check_parity(model: Deployed, content: bytes, where: str) -> float:
    """Compare on smooth random slices of assorted sizes; returns the largest difference in probability.

    The map's tolerance is relative to its own largest value, if that exceeds 1; the outlier score's to the score.

    Raises:
        ModelFileError: a difference is larger than the tolerance.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    largest = 0.0
    for height, width in SIZES:
        coarse = torch.from_numpy(random.random((3, 1, 9, 9), dtype=np.float32))
        smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
        slices = (smooth[:, 0] * 255).round().to(torch.uint8)
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
