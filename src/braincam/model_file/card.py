"""What a model file says about itself; torch-free, so that the runtime wing reads it.

The same JSON card is kept in the metadata of the ONNX file and of its safetensors twin. Loading never runs code.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from braincam.errors import ModelFileError

FORMAT = "braincam-model-1"
METADATA_KEY = "braincam.card"
NOTICE = "Research use only. Not a medical device; not for diagnosis."
LONGEST = 255  # characters of a name: as long as that of a folder may be
OUTLIER_FEATURES = "square roots of pooled features"  # what the outlier score of this version measures
HASH_LENGTH = 12  # hexadecimal digits of a slice's or group's short hash: 48 bits


@dataclass(frozen=True, kw_only=True)
class Card:
    """The facts a model carries.

    Numbers in `scores` come from slices that training never saw, as far as known; where `scores["headline"]` is "all",
    the split leaked, and slices that training had met count too.
    """

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
    outlier_features: str = "pooled features"  # what the outlier score measures; the first cards do not say it
    seen_slices: tuple[str, ...] = ()  # short hashes of the training and validation files
    seen_groups: tuple[str, ...] = ()  # short hashes of their patients
    format: str = FORMAT
    license: str = "Apache-2.0"
    notice: str = NOTICE
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def never_ruled_out(self) -> tuple[str, ...]:
        """Classes in every prediction set: there were too few slices of them to set a threshold on."""
        return tuple(name for name, least in zip(self.classes, self.conformal_thresholds, strict=True) if least <= 0)

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
            raw = json.loads(metadata[METADATA_KEY], parse_constant=_finite, parse_float=_finite)
        except (ValueError, RecursionError) as error:
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
    """Check what prediction and printing rely on; a foreign file may hold anything, also what a terminal obeys."""
    if not isinstance(card.classes, tuple) or len(card.classes) < 2 or len(set(card.classes)) < len(card.classes):
        raise ValueError("classes must be two or more different names")
    said = (card.name, card.license, card.notice, card.outlier_features, *card.classes)
    if not all(map(usable_name, said)) or not (card.created == "" or usable_name(card.created)):  # "": deterministic
        raise ValueError(f"names must be printable, and of 1 to {LONGEST} characters")
    if len(card.conformal_thresholds) != len(card.classes):
        raise ValueError("one conformal threshold per class")
    numbers = (
        card.temperature,
        card.outlier_threshold,
        card.outlier_false_refusals,
        card.conformal_coverage,
        card.parameters,
        *card.conformal_thresholds,
    )
    if not all(isinstance(number, int | float) and abs(number) < 1e15 for number in numbers) or card.temperature <= 0:
        raise ValueError("temperature, thresholds and parameters must be numbers, the temperature above 0")
    facts = (card.preprocess, card.network, card.training, card.scores, card.recipe, card.versions, card.extra)
    if not all(isinstance(fact, dict) for fact in facts):
        raise ValueError("preprocess, network, training, scores, recipe, versions and extra must be objects")
    side, means = card.preprocess.get("image_size"), card.preprocess.get("mean")
    if not (isinstance(side, int) and isinstance(means, list)):
        raise ValueError("preprocess must hold image_size and mean")  # noqa: TRY004 - a damaged file, not a wrong call
    if not all(isinstance(found, tuple) for found in (card.seen_slices, card.seen_groups)):
        raise ValueError("seen_slices and seen_groups must be lists")


def usable_name(word: object) -> bool:
    """Whether this may name a model or a class: it is printed in terminals and becomes part of file names."""
    return isinstance(word, str) and word.isprintable() and 0 < len(word) <= LONGEST


def _finite(text: str) -> float:
    """A number of a card; JSON has neither NaN nor infinity, but Python reads both, and 1e999 as infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def patient_hash(name: str, data_sha256: str) -> str:
    """The short hash under which a card remembers a patient's name.

    The training data's hash is part of it, so that two models do not show that they met the same person. A name that
    can be guessed can still be tried.
    """
    return hashlib.sha256(f"{data_sha256}:{name}".encode()).hexdigest()[:HASH_LENGTH]
