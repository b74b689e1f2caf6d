"""From the facts of a card or a recipe to an untrained network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from braincam.network.attention_cnn import AttentionCNN, NetworkConfig
from braincam.network.classifier import Classifier, ClassifierConfig
from braincam.network.resnet18 import RESNET18, ResNet18


def build_network(facts: Mapping[str, Any]) -> Classifier:
    """The network that a card's `network` describes; ``asdict(network.config)`` gives the facts back.

    Raises:
        ConfigError: a value is out of range.
        TypeError: an unknown fact.
    """
    if facts.get("size") == RESNET18:
        return ResNet18(ClassifierConfig(**facts))
    return AttentionCNN(NetworkConfig(**facts))
