"""Destroying what a network has learnt, layer by layer: its maps have to go with it (torch).

Adebayo et al. 2018, arXiv:1810.03292: a map that stays when the weights are random shows the picture, not the network.
Shuffled weights may turn a map over as well as lose it, either equally often, so a mean correlation of zero proves
nothing: its size does, beside that of maps of other slices.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from braincam.network.classifier import Classifier


def parts_from_the_output(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Parts that have weights, from the output to the input; lists of modules are taken apart."""
    parts: list[tuple[str, nn.Module]] = []
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList):
            parts += [(f"{name}.{number}", part) for number, part in enumerate(child)]
        else:
            parts.append((name, child))
    return [(name, part) for name, part in reversed(parts) if any(True for _ in part.parameters())]


def shuffle_weights(part: nn.Module, random: torch.Generator) -> None:
    """Let the values of each tensor change places, so that their spread stays; layers lose their mean before.

    No shuffle can destroy a mean: a common factor of all features would be left in every class.
    """
    with torch.no_grad():
        for weights in part.parameters():
            order = torch.randperm(weights.numel(), generator=random).to(weights.device)
            values = weights.flatten()[order]
            if weights.ndim > 1:  # the rest are scales and offsets of channels, without which nothing is passed on
                values -= values.mean()
            weights.copy_(values.view_as(weights))


def without_readouts(network: Classifier, seed: int = 0) -> Classifier:
    """A copy whose linear readouts are shuffled (`shuffle_weights`), and nothing else."""
    random = torch.Generator().manual_seed(seed)
    destroyed = copy.deepcopy(network).eval()
    for part in destroyed.readouts:
        shuffle_weights(part, random)
    return destroyed


def cascade(network: Classifier, seed: int = 0) -> Iterator[tuple[str, Classifier]]:
    """The network with its last part's weights shuffled (`shuffle_weights`), then its last two, ... down to the first.

    The network given is left alone.
    """
    random = torch.Generator().manual_seed(seed)
    destroyed = copy.deepcopy(network).eval()
    for name, part in parts_from_the_output(destroyed):
        shuffle_weights(part, random)
        yield name, destroyed


@torch.inference_mode()
def class_maps(network: Classifier, inputs: Tensor, classes: Tensor) -> Tensor:
    """The map of one class per slice: standardised (N, C, S, S), class numbers (N,) → (N, h, w)."""
    cams = torch.cat([network.read(batch).cam for batch in inputs.split(32)])
    return cams[torch.arange(len(cams)), classes]
