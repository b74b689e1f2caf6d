"""The loop that most people write, as the peer of `braincam train`.

torchvision's ImageFolder, transforms picture by picture in the workers of a DataLoader, float32, Adam at a constant
rate, cross-entropy. Nothing is kept between epochs: every epoch decodes every file.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader, Dataset
from torchvision import datasets, transforms
from torchvision.models import resnet18

from braincam.network.build import build_network
from braincam.network.preprocess import IMAGENET_MEAN, IMAGENET_STD
from braincam.training.config import TrainConfig

LEARNING_RATE = 1e-3
SIDE = 224  # of its pictures, as nearly everybody runs it

Batches = DataLoader[tuple[torch.Tensor, torch.Tensor]]


def resnet18_at_224(classes: int) -> tuple[nn.Module, int, int]:
    """What most people train: network, side of its pictures, channels."""
    return resnet18(num_classes=classes), SIDE, 3


def our_network(classes: int) -> tuple[nn.Module, int, int]:
    """The network of the default recipe, at the default recipe's size: network, side, channels."""
    recipe = TrainConfig()
    return build_network(recipe.network_facts(classes)), recipe.image_size, len(recipe.mean)


def transform(side: int, channels: int, *, training: bool) -> transforms.Compose:
    """The transforms of the tutorials: resize, mirror and rotate in training, standardise."""
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else (TrainConfig().mean, TrainConfig().std)
    vary = [transforms.RandomHorizontalFlip(), transforms.RandomRotation(15)] if training else []
    return transforms.Compose(
        [
            transforms.Grayscale(channels),
            transforms.Resize((side, side)),
            *vary,
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def pictures(data: Path, wanted: Collection[str], change: transforms.Compose) -> Dataset[tuple[torch.Tensor, int]]:
    """The named pictures (paths below `data`) as ImageFolder reads them, from both official parts if need be."""
    parts = [data / name for name in ("Training", "Testing") if (data / name).is_dir()] or [data]
    chosen = {str(data / path) for path in wanted}
    return ConcatDataset(
        datasets.ImageFolder(str(part), change, is_valid_file=chosen.__contains__, allow_empty=True) for part in parts
    )


def loader(dataset: Dataset[tuple[torch.Tensor, int]], batch_size: int, workers: int, *, shuffle: bool) -> Batches:
    """A DataLoader whose workers stay between epochs."""
    return DataLoader(dataset, batch_size, shuffle=shuffle, num_workers=workers, persistent_workers=workers > 0)


def train_epoch(network: nn.Module, batches: Batches, optimizer: torch.optim.Optimizer) -> None:
    """Every picture once, on the network's device."""
    device = next(network.parameters()).device
    network.train()
    for images, labels in batches:
        loss = F.cross_entropy(network(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def accuracy(network: nn.Module, batches: Batches) -> float:
    """Share of rightly named pictures."""
    device = next(network.parameters()).device
    network.eval()
    right = torch.cat([network(images.to(device)).argmax(1).cpu() == labels for images, labels in batches])
    return right.double().mean().item()
