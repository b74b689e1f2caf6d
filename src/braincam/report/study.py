"""The page of a study: what each volume says, slice by slice, with its top slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braincam.model_file.card import Card
from braincam.model_file.decision import stated
from braincam.predict import Prediction
from braincam.report.page import write_page
from braincam.study import CAUTION, Study, tumour_classes

# Okabe and Ito's colours, told apart with every common kind of colour blindness; grey for what is no tumour.
TUMOUR_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
PLAIN_COLOUR = "#9aa4b0"
HEIGHT = 100  # of the profile: one unit is a hundredth of probability


@dataclass(frozen=True, kw_only=True)
class VolumeSection:
    """What the page shows of one volume."""

    study: Study
    profile: Sequence[Mapping[str, Any]]  # of `profile`
    tiles: Sequence[tuple[bytes, str]]  # JPEG, caption
    scale: float | None  # evidence of the hottest colour in the tiles
    files: Mapping[str, str | None]  # what was written for it: kind -> name, or None
    no_map: str | None  # why there is no map volume


def write_study_page(out: Path, sections: Sequence[VolumeSection], card: Card, model: Mapping[str, str]) -> None:
    """Write one HTML file that needs nothing else."""
    write_page(
        out,
        "study.html",
        sections=sections,
        colours=class_colours(card),
        card=card,
        model=model,
        study_caution=CAUTION,
        height=HEIGHT,
    )


def class_colours(card: Card) -> dict[str, str]:
    """Class -> colour, in the order of the model's outputs."""
    tumours = tumour_classes(card)
    taken = {name: TUMOUR_COLOURS[k % len(TUMOUR_COLOURS)] for k, name in enumerate(tumours)}
    return {name: taken.get(name, PLAIN_COLOUR) for name in card.classes}


def profile(answers: Sequence[Prediction], card: Card) -> list[dict[str, Any]]:
    """One column per slice, in order: the stacked probabilities as (class, top, height), and what was decided."""
    columns = []
    for answer in sorted(answers, key=lambda answer: answer.slice or 0):
        bars, top = [], 0.0
        if answer.probabilities and answer.status in {"ok", "refer"}:
            # tumours from the bottom up, so that they read as one height against what is none
            for name in [*tumour_classes(card), *(set(card.classes) - set(tumour_classes(card)))]:
                height = HEIGHT * answer.probabilities[name]
                top += height
                bars.append((name, round(HEIGHT - top, 2), round(height, 2)))
        columns.append(
            {
                "slice": answer.slice,
                "status": answer.status,
                "label": answer.label,
                "bars": bars,
                "words": _words(answer),
            }
        )
    return columns


def _words(answer: Prediction) -> str:
    what = f"slice {answer.slice}: {answer.status}"
    if answer.status == "ok":
        return f"{what}, {answer.label} {stated(answer.confidence or 0.0)}"
    return f"{what}, {' or '.join(answer.prediction_set or ['none'])}" if answer.status == "refer" else what
