"""What training, export and explanation ask of a network: logits, and an exact map of where they came from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from braincam.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """What every network is built from."""

    classes: int = 4
    size: str  # the name under which a recipe asks for it
    channels: int = 1
    dropout: float = 0.2
    mirror: bool = True

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ConfigError(f"classes: expected at least 2, got {self.classes}")


class Reading(NamedTuple):
    """Everything one forward pass knows about a batch."""

    logits: Tensor  # (N, K) before softmax
    features: Tensor  # (N, D) square roots of the pooled features of all scales
    cam: Tensor  # (N, K, h, w) evidence per pixel; its mean over h and w is `logits`


class Classifier(nn.Module, ABC):
    """Standardised slices (N, C, S, S) → logits (N, K).

    A network says how it makes feature maps (`scales`) and what linear layers make of every pixel of them
    (`evidence`); that the logit is the mean of the evidence, and the mirror image, follow for all.
    """

    config: ClassifierConfig

    @property
    @abstractmethod
    def last_stage(self) -> nn.Module:
        """The deepest layer that still knows places: gradient methods look at its output."""

    @property
    @abstractmethod
    def readouts(self) -> list[nn.Linear]:
        """The linear layers whose outputs are the classes, in order; all else knows of no class."""

    @abstractmethod
    def scales(self, x: Tensor) -> list[Tensor]:
        """(N, C, S, S) → feature maps, one for each scale that is read out, the finest first; none is negative."""

    @abstractmethod
    def evidence(self, scales: list[Tensor]) -> Tensor:
        """Class activation maps (N, K, h, w) of the feature maps; the biases are spread over the pixels."""

    def enlarged(self, maps: Tensor, side: int) -> Tensor:
        """Maps of a stage on the grid of the evidence, each cell where it looks: (N, K, h, w), S → (N, K, S/4, S/4)."""
        return F.interpolate(maps, (side // 4, side // 4), mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) → logits (N, K), before softmax."""
        return self.evidence(self.scales(x)).mean((2, 3))

    def read(self, x: Tensor) -> Reading:
        """(N, C, S, S) → logits, pooled features and the exact class activation maps, in one forward pass.

        With `mirror`, of the slice and its mirror image, averaged: the answer to both is the same then, and the map of
        one is the mirrored map of the other. `forward`, which trains, sees one of them.

        Pooled features of real slices have long tails upwards, in which pictures of other things hide; square roots
        have hardly any (`benchmarks/outliers.py`).
        """
        scales = self.scales(torch.cat((x, x.flip(3))) if self.config.mirror else x)
        cam = self.evidence(scales)
        features = torch.cat([scale.mean((2, 3)) for scale in scales], 1)
        if self.config.mirror:
            n = x.shape[0]
            cam = (cam[:n] + cam[n:].flip(3)) / 2
            features = (features[:n] + features[n:]) / 2
        return Reading(logits=cam.mean((2, 3)), features=features.sqrt(), cam=spread(cam))


def spread(maps: Tensor) -> Tensor:
    """Each cell's evidence shared with its neighbours: (N, K, h, w) → same, the mean of every map unchanged.

    A cell speaks for the neighbourhood that its features saw, which is larger than itself. Binomial weights 1, 2, 1
    along each axis; the edge is repeated, so that nothing is lost there.
    """
    wider = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(wider, 2, 1), 2, 1)
