"""The recipe as frozen data: every key is typed and checked, and an unknown one is an error that lists the known.

Three recipes ship beside this module: ``default.toml``, ``specification.toml`` (the original specification to the
letter) and ``demo.toml``. ``--set key=value`` overrides single keys.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from braincam.errors import ConfigError, did_you_mean
from braincam.network.attention import ATTENTIONS
from braincam.network.attention_cnn import POOLINGS, SIZES
from braincam.network.preprocess import LARGEST_SIDE
from braincam.network.resnet18 import RESNET18, STRIDE
from braincam.threads import check_threads
from braincam.training.schedule import SCHEDULES

CHOICES: dict[str, tuple[str, ...]] = {
    "network": (*SIZES, RESNET18),
    "attention": ATTENTIONS,
    "pooling": POOLINGS,
    "split": ("grouped", "official"),
    "augment": ("none", "standard"),
    "schedule": SCHEDULES,
    "precision": ("auto", "float32", "bfloat16"),
}
AT_LEAST: dict[str, float] = {
    "image_size": 32,
    "epochs": 1,
    "batch_size": 2,
    "patience": 0,
    "seed": 0,
    "weight_decay": 0,
}
KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    tuple[float, ...]: "numbers",
}
BELOW_ONE = ("dropout", "label_smoothing", "ema_decay")


REVISION = 3  # raised whenever the same config comes to train other weights: its runs are no longer of one recipe
FIRST_REVISION = 1  # of runs, checkpoints and cards that do not say theirs
MACHINE = ("device", "precision", "threads")  # keys that say where a recipe runs, not what it is


def _key(default: Any, meaning: str) -> Any:
    """A key of the recipe with its default; what it means stands in the reference and in every `config.toml`."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training, from pixels to the last epoch. Defaults are the default recipe."""

    # the network and what it sees
    network: str = _key("small", "a size of the network with attention, or the peer without: resnet18")
    attention: str = _key("both", "which attentions the network has")
    pooling: str = _key("attention", "how the evidence of all pixels becomes a logit; attention: by learned weights")
    dropout: float = _key(0.2, "share of the channels that are left out before the linear layers")
    mirror: bool = _key(True, "the answer is the mean over a slice and its mirror image")
    image_size: int = _key(
        128, f"side of what the network sees, in pixels: a multiple of 16 (resnet18: of 32), at most {LARGEST_SIDE}"
    )
    frame: bool = _key(True, "find the head and cut it out, so that the canvas carries no label")
    subtract_black: bool = _key(True, "the darkest grey becomes zero, so that a window that lifts it carries no label")
    mean: tuple[float, ...] = _key((0.18,), "of grey values in [0, 1], one for each input channel; channels are equal")
    std: tuple[float, ...] = _key((0.19,), "of grey values, as many as means")

    # the data
    split: str = _key("grouped", "without --split: patients and copies kept apart, or Training/ against Testing/")
    validation_share: float = _key(
        0.1, "of the training slices, above 0 and at most 0.5, cut by group: the best epoch is chosen on it"
    )
    class_weights: bool = _key(False, "weigh the loss by inverse class frequency")
    augment: str = _key("standard", "vary what differs between heads and scanners")

    # the optimisation
    epochs: int = _key(40, "times that every training slice is seen")
    resolution_steps: tuple[float, ...] = _key(
        (0.625, 0.75, 0.875, 1.0), "shares of image_size, each for as many epochs; the last is 1"
    )
    batch_size: int = _key(32, "slices in a step, over all processes")
    learning_rate: float = _key(3e-3, "of AdamW, at its highest; above 0")
    weight_decay: float = _key(0.2, "decoupled, as in AdamW; 0 is plain Adam")
    schedule: str = _key("cosine", "of the learning rate; cosine rises over the first tenth of the steps, then falls")
    label_smoothing: float = _key(0.05, "of the labels in the loss")
    ema_decay: float = _key(0.995, "averaged weights are validated and kept; 0 switches averaging off")
    patience: int = _key(
        12,  # the default recipe has 10 epochs at full size, so that it never stops early
        "epochs at full size without a lower validation loss before stopping; 0 never stops early",
    )

    # the machine
    seed: int = _key(0, "of weights, order, augmentation and dropout")
    device: str = _key("auto", "auto, cpu, cuda, cuda:1, mps; auto takes the fastest that is there")
    precision: str = _key("auto", "auto: bfloat16 where the device computes in it, else float32")
    threads: int = _key(0, "CPU threads; 0 leaves it to torch")

    def __post_init__(self) -> None:
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(f"{key}: expected one of {', '.join(allowed)}, got {getattr(self, key)!r}")
        for key, lowest in AT_LEAST.items():
            if getattr(self, key) < lowest:
                raise ConfigError(f"{key}: expected at least {lowest:g}, got {getattr(self, key)}")
        check_threads(self.threads)
        self._refuse_what_the_peer_cannot()
        self._refuse_impossible_numbers()
        for key in BELOW_ONE:
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(f"{key}: expected 0 or more and below 1, got {getattr(self, key)}")
        if not 0 < self.validation_share <= 0.5:
            raise ConfigError(
                f"validation_share: expected more than 0 and at most 0.5, got {self.validation_share}; "
                "the best epoch is chosen on it, and the rest is what is learnt from"
            )
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate: expected more than 0, got {self.learning_rate}")
        if self.image_size % 16 or self.image_size > LARGEST_SIDE:
            raise ConfigError(f"image_size: expected a multiple of 16, at most {LARGEST_SIDE}, got {self.image_size}")
        if not self.resolution_steps or self.resolution_steps[-1] != 1 or not 0 < min(self.resolution_steps) <= 1:
            raise ConfigError(
                "resolution_steps: expected shares of image_size above 0 that end with 1, "
                f"got {list(self.resolution_steps)}"
            )
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) <= 0:
            raise ConfigError(
                f"mean, std: expected one positive std per mean, got {list(self.mean)} and {list(self.std)}"
            )

    def _refuse_what_the_peer_cannot(self) -> None:
        if self.network == RESNET18 and self.image_size % STRIDE:
            raise ConfigError(f"image_size: expected a multiple of {STRIDE} for {RESNET18}, got {self.image_size}")
        if self.network == RESNET18 and (self.attention, self.pooling) != ("none", "mean"):
            raise ConfigError(
                f"network {RESNET18}: has no attention and pools by the mean; expected attention=none, pooling=mean, "
                f"got attention={self.attention}, pooling={self.pooling}; leave both keys out or choose another network"
            )

    def _refuse_impossible_numbers(self) -> None:
        if self.seed >= 2**32:
            raise ConfigError(f"seed: expected less than 2^32, got {self.seed}")
        for key, value in asdict(self).items():
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise ConfigError(f"{key}: expected a finite number, got {number}")

    def network_facts(self, classes: int) -> dict[str, Any]:
        """What `build_network` needs for `classes` classes."""
        facts: dict[str, Any] = {
            "classes": classes,
            "size": self.network,
            "channels": len(self.mean),
            "dropout": self.dropout,
            "mirror": self.mirror,
        }
        return facts if self.network == RESNET18 else {**facts, "attention": self.attention, "pooling": self.pooling}

    def to_toml(self) -> str:
        """The config as TOML that `read_config` reads back to an equal config."""
        # JSON's scalars and flat lists are valid TOML
        meanings = {key.name: key.metadata["meaning"] for key in fields(self)}
        return "".join(f"{key} = {json.dumps(value)}  # {meanings[key]}\n" for key, value in asdict(self).items())


def reference() -> list[tuple[str, str, str, str]]:
    """Every key, in order: its name, its default as TOML, the values it can have, and what it means."""
    hints = get_type_hints(TrainConfig)
    return [
        (key.name, json.dumps(key.default), _values(key.name, hints[key.name]), key.metadata["meaning"])
        for key in fields(TrainConfig)
    ]


def _values(key: str, kind: Any) -> str:
    """The values of a key in a few words."""
    if key in CHOICES:
        return ", ".join(CHOICES[key])
    if key in AT_LEAST:
        return f"{KINDS[kind]}, at least {AT_LEAST[key]:g}"
    return f"{KINDS[kind]}, at least 0 and below 1" if key in BELOW_ONE else KINDS[kind]


def shipped(name: str) -> Path:
    """Path of a recipe inside the package: "default", "specification" or "demo"."""
    return Path(str(files("braincam.training") / "configs" / f"{name}.toml"))


def read_config(source: Path | None = None, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a recipe from a TOML file (None: the default recipe), then apply ``key=value`` overrides.

    A `source` that is no file but the name of a shipped recipe, with or without ``.toml``, is that recipe.

    Raises:
        ConfigError: a missing or malformed file, an unknown key, a value of the wrong type or out of range.
    """
    raw: dict[str, Any] = {}
    if source is not None:
        # only a bare name stands for a shipped recipe: a mistyped path must not
        bare = source.parent == Path() and source.suffix in ("", ".toml")
        path = shipped(source.stem) if bare and not source.is_file() else source
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"{source}: no such config; give a TOML file, or one of the shipped: default, specification, demo"
            ) from None
        except (ValueError, RecursionError, OSError) as error:  # nested too deeply, or a number of too many digits
            raise ConfigError(f"{source}: expected a TOML file, got: {error}") from error
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"--set {override}: expected key=value, such as epochs=10")
        raw[key.strip()] = _parse(text.strip())
    try:
        return from_mapping(raw)
    except ConfigError:
        raise
    except (ArithmeticError, ValueError) as error:  # neither computed with nor printed
        raise ConfigError(f"{source or '--set'}: expected numbers of a usual size, got a far larger one") from error


def from_mapping(raw: Mapping[str, Any]) -> TrainConfig:
    """Build a config from plain values, checking names and types."""
    hints = get_type_hints(TrainConfig)
    known = [field.name for field in fields(TrainConfig)]
    if unknown := sorted(raw.keys() - set(known)):
        ask = did_you_mean(unknown, known)
        raise ConfigError(
            f"unknown config key {', '.join(unknown)}; {ask + ' ' if ask else ''}known are {', '.join(known)}"
        )
    values = {key: _typed(key, value, hints[key]) for key, value in raw.items()}
    if values.get("network") == RESNET18:  # what it is, unless it is said otherwise, which is refused
        values = {"attention": "none", "pooling": "mean", **values}
    return TrainConfig(**values)


def _parse(text: str) -> Any:
    """Read a command-line value as TOML would; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _typed(key: str, value: Any, kind: Any) -> Any:
    """Return `value` as `kind`, or raise; a whole number may stand for a float, a list for a tuple."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == tuple[float, ...]:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_typed(key, item, float) for item in items)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{key}: expected {KINDS[kind]}, got {value!r}")
    return value
