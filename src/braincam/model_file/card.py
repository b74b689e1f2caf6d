"""What a model file says about itself; torch-free, so that the runtime wing reads it.

The same JSON card is kept in the metadata of the ONNX file and of its safetensors twin. Loading never runs code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from braincam.errors import ModelFileError

FORMAT = "braincam-model-1"
METADATA_KEY = "braincam.card"
NOTICE = "Research use only. Not a medical device; not for diagnosis."
HASH_LENGTH = 12  # hexadecimal digits of a slice's or group's short hash: 48 bits


@dataclass(frozen=True, kw_only=True)
class Card:
    """The facts a model carries. Numbers in `scores` come from slices that training never saw."""

    name: str
    classes: tuple[str, ...]  # in the order of the outputs
    preprocess: dict[str, Any]  # image_size, mean, std
    network: dict[str, Any]  # size, attention, channels, dropout, classes
    parameters: int
    temperature: float  # the logits are divided by it before softmax
    outlier_threshold: float  # slices with a higher outlier score are rejected
    outlier_false_refusals: float  # share of real validation slices above the threshold
    conformal_thresholds: tuple[float, ...]  # per class: it enters the prediction set at this probability
    conformal_coverage: float  # share of prediction sets asked to hold the true class
    training: dict[str, Any]  # data hash, split, leak, counts, seconds, device
    scores: dict[str, Any]  # test part: metrics with their 95 % intervals
    recipe: dict[str, Any]  # the whole TrainConfig
    versions: dict[str, str]
    created: str  # ISO 8601, UTC; empty after `train --deterministic`, whose files are the same each time
    seen_slices: tuple[str, ...] = ()  # short hashes of the training and validation files
    seen_groups: tuple[str, ...] = ()  # short hashes of their patients
    format: str = FORMAT
    license: str = "Apache-2.0"
    notice: str = NOTICE
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The card on one line, as it is stored."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def summary(self) -> dict[str, Any]:
        """The card without its long lists of hashes, which are replaced by their lengths."""
        facts = asdict(self)
        for key in ("seen_slices", "seen_groups"):
            facts[key] = len(facts[key])
        return facts

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> Card:
        """Read the card from a model file's metadata; `where` names the file in errors.

        Raises:
            ModelFileError: there is no card, it is of another format, or a field is missing or damaged.
        """
        if METADATA_KEY not in metadata:
            raise ModelFileError(f"{where}: expected a braincam model, got a file without a braincam card")
        try:
            raw = json.loads(metadata[METADATA_KEY])
        except (json.JSONDecodeError, RecursionError) as error:
            raise ModelFileError(f"{where}: its card is damaged ({error}); get the file anew") from error
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            got = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
            raise ModelFileError(f"{where}: expected format {FORMAT}, got {got!r}; this braincam cannot read it")
        known = {item.name for item in fields(cls)}
        for key in ("classes", "conformal_thresholds", "seen_slices", "seen_groups"):
            if isinstance(raw.get(key), list):
                raw[key] = tuple(raw[key])
        try:
            card = cls(**{key: value for key, value in raw.items() if key in known})
            _check(card)
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"{where}: its card is damaged ({error}); get the file anew") from error
        return card


def _check(card: Card) -> None:
    """Check what prediction relies on; a foreign file may hold anything."""
    if len(card.classes) < 2 or not all(isinstance(name, str) for name in card.classes):
        raise ValueError("classes must be two or more names")
    if len(card.conformal_thresholds) != len(card.classes):
        raise ValueError("one conformal threshold per class")
    numbers = (card.temperature, card.outlier_threshold, *card.conformal_thresholds)
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("temperature and thresholds must be numbers")


def patient_hash(name: str, data_sha256: str) -> str:
    """The short hash under which a card remembers a patient's name.

    The training data's hash is part of it, so that two models do not show that they met the same person. A name that
    can be guessed can still be tried.
    """
    return hashlib.sha256(f"{data_sha256}:{name}".encode()).hexdigest()[:HASH_LENGTH]
