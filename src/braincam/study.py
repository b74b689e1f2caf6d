"""What the slices of one volume say together: pure functions over their predictions.

The model judges single slices. Neighbouring slices of a head are alike, so their answers are not independent
trials, and no test or confidence interval for the whole is made from them. What is given instead is counted:

* a slice *carries evidence* for a tumour class when that class leads and alone is in its prediction set;
* a class has a *share*, of the slices that were judged, and a *range*: the least, middle and largest calibrated
  probability over the slices that carry it. The range describes these slices. It is no confidence interval;
* prediction sets miss the truth in some slices by design (5 % at 95 % coverage). So many wrong slices are
  *allowed for*; a class found in no more than that many is not named, nor one without most of the evidence.

How often a study's answer is right has not been measured: the model was trained and scored on single slices.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from braincam.dataset.manifest import means_no_tumour
from braincam.model_file.card import Card
from braincam.model_file.decision import stated
from braincam.predict import Prediction

EVIDENCE, NO_EVIDENCE, UNCLEAR, REFUSED = "evidence", "no evidence", "unclear", "refused"
NOT_NO_TUMOUR = 'No evidence is not "no tumour": the model knows only {}, and misses some.'
UNORIENTED = (
    "The file does not say how it lies: its qform and sform have the code 0. Its first axis was taken for right to "
    "left, its second for back to front, its third for foot to head; if they are others, the slices lie on their side, "
    "and the answers mean nothing."
)
CAUTION = (
    "Counted over single slices, whose neighbours are alike: the range describes these slices and is no confidence "
    "interval. How often such an answer is right for a whole study has not been measured."
)


@dataclass(frozen=True, kw_only=True)
class ClassEvidence:
    """The slices that carry evidence for one tumour class."""

    label: str
    slices: tuple[int, ...]  # their numbers, rising
    share: float | None  # of the slices that were judged
    probability: tuple[float, float, float] | None  # least, middle, largest over these slices

    @property
    def runs(self) -> list[tuple[int, int]]:
        """First and last number of each stretch of neighbouring slices."""
        found: list[tuple[int, int]] = []
        for number in self.slices:
            if found and number == found[-1][1] + 1:
                found[-1] = (found[-1][0], number)
            else:
                found.append((number, number))
        return found


@dataclass(frozen=True, kw_only=True)
class Study:
    """The summary of one volume."""

    name: str  # as the caller gave it
    finding: str  # evidence, no evidence, unclear, refused
    label: str | None  # the leading class; only for "evidence"
    statement: str  # the finding in one sentence
    slices: int
    judged: int  # answered or referred
    uncertain: int  # of these referred
    without: int  # slices surely without evidence for a tumour
    not_judged: dict[str, int]  # reason of the refusal or error -> slices
    coverage: float  # of a prediction set
    allowed: int  # slices that may be wrong at this coverage
    evidence: tuple[ClassEvidence, ...]  # per tumour class, the leading one first
    closest: str | None  # the leading tumour class, or else the likeliest
    chosen: tuple[int, int] | None = None  # of a file of several volumes: which, from 0, and of how many
    oriented: bool = True  # whether its file says how it lies in the head

    @property
    def remarks(self) -> list[str]:
        """What has to be known of how the file was read, in sentences."""
        found = []
        if self.chosen is not None:
            number, count = self.chosen
            found.append(f"Volume {number} of {count}, counted from 0, was read; --volume reads another.")
        if not self.oriented:
            found.append(UNORIENTED)
        return found

    @property
    def shown(self) -> str | None:
        """The tumour class that maps are shown for.

        None where no slice carries evidence: on a scale stretched to it, almost nothing would glow like a tumour.
        """
        return self.closest if self.finding in {EVIDENCE, UNCLEAR} else None

    def to_json(self) -> dict[str, Any]:
        """The documented fields, ready for `json.dumps`."""
        return {
            "path": self.name,
            "volume": None if self.chosen is None else {"number": self.chosen[0], "of": self.chosen[1]},
            "remarks": self.remarks,
            "finding": self.finding,
            "label": self.label,
            "statement": self.statement,
            "slices": self.slices,
            "judged": self.judged,
            "uncertain": self.uncertain,
            "without_evidence": self.without,
            "not_judged": self.not_judged,
            "coverage": self.coverage,
            "allowed_for": self.allowed,
            "evidence": [
                {
                    "label": item.label,
                    "slices": list(item.slices),
                    "runs": [list(run) for run in item.runs],
                    "share_of_judged": item.share,
                    "probability_range": _range_json(item.probability),
                }
                for item in self.evidence
            ],
            "caution": CAUTION,
        }


def volume_name(answer: Prediction, met: Counter[str]) -> str:
    """What the volume of a slice is called: a series has its own name, else it is its file's; a second one is numbered.

    `met` counts the volumes of each name so far, and this one.
    """
    name = (answer.volume and answer.volume.name) or answer.path
    met[name] += 1
    return name if met[name] == 1 else f"{name} ({met[name]})"


def tumour_classes(card: Card) -> list[str]:
    """The classes that a slice can carry evidence for: all but the one that means none."""
    return [name for name in card.classes if not means_no_tumour(name)]


def summarise(name: str, answers: Sequence[Prediction], card: Card) -> Study:
    """Sum up the slices of one volume, in any order; at least one."""
    tumours = tumour_classes(card)
    judged = [answer for answer in answers if answer.status in {"ok", "refer"} and answer.probabilities]
    uncertain = sum(answer.status == "refer" for answer in judged)
    without = sum(answer.status == "ok" and answer.label not in tumours for answer in judged)
    evidence = sorted((_evidence(label, judged) for label in tumours), key=lambda item: -len(item.slices))
    allowed = math.floor((1 - card.conformal_coverage) * len(judged) + 1e-9)
    finding = _finding(len(answers), len(judged), uncertain, [len(item.slices) for item in evidence], allowed)
    leading = evidence[0].label if finding == EVIDENCE else None
    not_judged = Counter(_reason(answer) for answer in answers if answer.status in {"rejected", "error"})
    likeliest = max(tumours, key=lambda label: _total(label, judged)) if judged and tumours else None
    return Study(
        name=name,
        finding=finding,
        label=leading,
        statement=_statement(finding, evidence, len(answers), len(judged), without, uncertain, allowed, card),
        slices=len(answers),
        judged=len(judged),
        uncertain=uncertain,
        without=without,
        not_judged=dict(not_judged.most_common()),
        coverage=card.conformal_coverage,
        allowed=allowed,
        evidence=tuple(evidence),
        closest=evidence[0].label if evidence and evidence[0].slices else likeliest,
        chosen=answers[0].volume.chosen if answers[0].volume else None,
        oriented=answers[0].volume.oriented if answers[0].volume else True,
    )


def top_slices(answers: Sequence[Prediction], label: str, count: int) -> list[Prediction]:
    """The slices with the highest probability of a class, at most `count`, in their order in the volume.

    Only those that carry evidence for it, where any does.
    """
    judged = [answer for answer in answers if answer.status in {"ok", "refer"} and answer.probabilities]
    judged = [answer for answer in judged if carries(answer, label)] or judged
    ranked = sorted(judged, key=lambda answer: -(answer.probabilities or {})[label])[:count]
    return sorted(ranked, key=lambda answer: answer.slice or 0)


def carries(answer: Prediction, label: str) -> bool:
    """Whether a slice carries evidence for a class."""
    return answer.status == "ok" and answer.label == label


def _evidence(label: str, judged: Sequence[Prediction]) -> ClassEvidence:
    mine = [answer for answer in judged if carries(answer, label)]
    values = sorted((answer.probabilities or {})[label] for answer in mine)
    return ClassEvidence(
        label=label,
        slices=tuple(sorted(answer.slice or 0 for answer in mine)),
        share=round(len(mine) / len(judged), 4) if judged else None,
        probability=(values[0], round(median(values), 6), values[-1]) if values else None,
    )


def _finding(slices: int, judged: int, uncertain: int, counts: Sequence[int], allowed: int) -> str:
    """Refuse first, then say that it is unclear, else answer; `counts` of evidence per class, the largest first."""
    if 2 * judged < slices or not counts:
        return REFUSED
    if 2 * uncertain > judged:
        return UNCLEAR
    if not counts[0]:
        return NO_EVIDENCE
    return EVIDENCE if counts[0] > allowed and 2 * counts[0] > sum(counts) else UNCLEAR


def _statement(
    finding: str,
    evidence: Sequence[ClassEvidence],
    slices: int,
    judged: int,
    without: int,
    uncertain: int,
    allowed: int,
    card: Card,
) -> str:
    held = [item for item in evidence if item.slices]
    found = " and ".join(f"{item.label} in {len(item.slices)}" for item in held)
    if finding == REFUSED:
        return f"Not answered: {slices - judged} of {slices} slices were not judged."
    if finding == NO_EVIDENCE:
        others = _others(slices, judged, uncertain)
        counted = f"No evidence above the threshold in {without} of {slices} slices{others}."
        return f"{counted} {NOT_NO_TUMOUR.format(', '.join(tumour_classes(card)))}"
    if finding == EVIDENCE and (span := held[0].probability):
        others = f"; also {', '.join(f'{item.label} in {len(item.slices)}' for item in held[1:])}" if held[1:] else ""
        least, largest = stated(span[0]), stated(span[2])
        return (
            f"Evidence for {held[0].label} in {len(held[0].slices)} of {judged} judged slices, calibrated probability "
            f"{least if least == largest else f'{least} to {largest}'} on these slices{others}."
        )
    if 2 * uncertain > judged:
        why = f"{uncertain} of {judged} judged slices are too uncertain"
        return f"Unclear: {why}{f'; evidence for {found}' if held else ''}."
    counts = f"Unclear: evidence for {found} of {judged} judged slices"
    if len(held[0].slices) <= allowed:
        return f"{counts}, while up to {allowed} may be wrong at {card.conformal_coverage:.0%} coverage."
    return f"{counts}; no class has most of it."


def _others(slices: int, judged: int, uncertain: int) -> str:
    parts = [
        f"{count} {words}" for count, words in ((uncertain, "too uncertain"), (slices - judged, "not judged")) if count
    ]
    return f"; {', '.join(parts)}" if parts else ""


def _reason(answer: Prediction) -> str:
    """A refusal in words that many slices share."""
    if answer.status == "error":
        return "cannot be read"
    return (answer.reason or "rejected").partition(": outlier score")[0]


def _total(label: str, judged: Sequence[Prediction]) -> float:
    return sum((answer.probabilities or {})[label] for answer in judged)


def _range_json(span: tuple[float, float, float] | None) -> dict[str, float] | None:
    return None if span is None else {"least": span[0], "median": span[1], "largest": span[2]}
