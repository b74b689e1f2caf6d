"""The network with everything between decoded pixels and answers, ready to become one graph."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from braincam.network.classifier import Classifier
from braincam.network.preprocess import Preprocess


class Answers(NamedTuple):
    """The three outputs of a model file."""

    probabilities: Tensor  # (N, K) calibrated
    cam: Tensor  # (N, K, h, w) evidence per pixel; its mean is the logit before calibration
    outlier_score: Tensor  # (N,) higher = less like the training scans


class Deployed(nn.Module):
    """Grey uint8 slices (N, H, W) → `Answers`.

    The outlier score is the Mahalanobis distance of the features (`Reading`) to the nearest class mean, with one
    covariance for all classes (arXiv:1807.03888), divided by the square root of their number: real slices lie near 1.
    """

    centres: Tensor
    whitening: Tensor

    def __init__(
        self,
        preprocess: Preprocess,
        network: Classifier,
        temperature: float,
        centres: Tensor,
        whitening: Tensor,
    ):
        super().__init__()
        self.preprocess = preprocess
        self.network = network
        self.temperature = temperature
        self.register_buffer("centres", centres)  # (K, R) already whitened
        self.register_buffer("whitening", whitening)  # (D, R)

    def forward(self, image: Tensor) -> Answers:
        """Uint8 (N, H, W) → probabilities, class activation maps over the whole slice, outlier scores."""
        scaled, frames = self.preprocess.scale(image)
        reading = self.network.read(self.preprocess.standardise(scaled))
        cam = self.preprocess.paste(reading.cam, frames)
        probabilities, outlier_score = self.judge(reading.logits, reading.features)
        return Answers(probabilities, cam, outlier_score)

    def judge(self, logits: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and features (N, D) → calibrated probabilities (N, K) and outlier scores (N,)."""
        probabilities = torch.softmax(logits / self.temperature, dim=1)
        offsets = (features @ self.whitening)[:, None] - self.centres  # (N, K, R)
        return probabilities, offsets.square().mean(2).amin(1).sqrt()
