"""The peer that most people train: torchvision's ResNet-18 (arXiv:1512.03385), from scratch, behind the same interface.

Nothing of it is changed but the number of input channels and classes, and the recipe's dropout before the linear layer.
It averages over the pixels and then classifies linearly, so it has exact class activation maps too.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from braincam.network.classifier import Classifier, ClassifierConfig

RESNET18 = "resnet18"
STRIDE = 32  # pixels from one cell of the last stage to the next
CELL = 4  # pixels from one cell of the maps to the next: they are enlarged to the grid of the attention CNN's


class ResNet18(Classifier):
    """Standardised slices (N, C, S, S) → logits (N, K); S of at least 32.

    With 128-pixel input the features end at 4 × 4 cells. The maps are enlarged to 32 × 32, as people do to look at
    them, before they are laid back over a framed slice: 4 × 4 cells would be blurred once more by that. Each cell is
    laid where its receptive field has its centre, see `placed`.
    """

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        body = resnet18(num_classes=config.classes)
        if config.channels != 3:
            body.conv1 = nn.Conv2d(config.channels, 64, 7, 2, 3, bias=False)
            nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own
        self.stem = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool)
        self.stages = nn.Sequential(body.layer1, body.layer2, body.layer3, body.layer4)
        self.head = cast("nn.Linear", body.fc)
        self.dropout = nn.Dropout2d(config.dropout)  # whole channels, so that it commutes with averaging

    @property
    def last_stage(self) -> nn.Module:
        """The stage at 1/32."""
        return self.stages[-1]

    @property
    def readouts(self) -> list[nn.Linear]:
        """The one at the end."""
        return [self.head]

    def scales(self, x: Tensor) -> list[Tensor]:
        """(N, C, S, S) → the last feature map (N, 512, S/32, S/32), rounded up."""
        return [self.stages(self.stem(x))]

    def evidence(self, scales: list[Tensor]) -> Tensor:
        """Class activation maps (N, K, S/4, S/4)."""
        (features,) = scales
        return exact(F.conv2d(self.dropout(features), self.head.weight[:, :, None, None], self.head.bias))

    def enlarged(self, maps: Tensor, side: int) -> Tensor:
        """As `Classifier.enlarged`: here the cells of every stage look further up and left."""
        return placed(maps, side // maps.shape[-1])


def exact(cells: Tensor) -> Tensor:
    """Maps of the last stage, `placed`, with a constant added that keeps the mean, which is the logit."""
    enlarged = placed(cells)
    return enlarged + (cells.mean((2, 3)) - enlarged.mean((2, 3)))[:, :, None, None]


def placed(cells: Tensor, stride: int = STRIDE) -> Tensor:
    """Maps of a stage, enlarged to where its cells look: (N, K, S/stride, ...) → (N, K, S/4, ...).

    A convolution with a stride of 2 and an odd kernel centres its first output on the first pixel, not between the
    first two: after five of them cell k is centred on pixel 32 k. Plain enlargement would draw it 15.5 pixels further
    down and to the right.
    """
    rows, columns = (_hats(side, stride).to(cells) for side in cells.shape[-2:])
    return rows @ cells @ columns.T


def _hats(cells: int, stride: int) -> Tensor:
    """Linear interpolation between cells along one axis as a matrix (S/4, S/stride); beyond the last it stays."""
    pixels = torch.arange(cells * stride // CELL) * CELL + (CELL - 1) / 2  # centres of the map's cells
    places = (pixels / stride).clamp(0, cells - 1)
    return (1 - (places[:, None] - torch.arange(cells)).abs()).clamp_min(0)
