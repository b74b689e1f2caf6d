"""What the verbs print on stdout: answers as table, CSV or JSON lines, and scores with their intervals."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from braincam.dataset.manifest import Manifest
from braincam.dataset.patients import Named
from braincam.errors import printable
from braincam.explain.localisation import MAP_COLUMNS
from braincam.explain.save import ANSWERS
from braincam.files import write_text
from braincam.model_file.card import NOTICE, Card
from braincam.model_file.decision import stated
from braincam.predict import Prediction
from braincam.progress import say
from braincam.resampling import FEW, measured, with_interval
from braincam.stdout import drop_stdout, reader_left
from braincam.study import Study

if TYPE_CHECKING:  # these need the training wing's libraries
    from braincam.dataset.audit import Audit
    from braincam.dataset.split import Straddling


def print_predictions(answers: Iterable[Prediction], style: str, out: Path | None, classes: Sequence[str] = ()) -> int:
    """Print answers as they come; returns how many are errors. With `out` they are also kept as JSON lines.

    A CSV has a column for each of `classes`, the model's.
    """
    kept: list[str] = []
    failed, done = 0, False
    show = {"json": _as_json, "csv": _csv_writer(classes), "table": _table_writer()}[style]
    try:
        for answer in answers:
            failed += answer.status == "error"
            if answer.status == "error":
                print(f"braincam: {answer.reason}", file=sys.stderr)
            if out:
                kept.append(_as_json(answer))
            try:
                print(show(answer), flush=style == "json")
            except OSError as error:
                if not (out and reader_left(error)):
                    raise
                drop_stdout(error)  # nobody reads on, but what is kept is to be whole
        done = True
    finally:  # also when the user stops it: what was answered is kept; no answer at all replaces nothing
        if out and (done or kept):
            _say_what_goes(out / ANSWERS)
            write_text(out / ANSWERS, "".join(f"{line}\n" for line in kept))
    if style == "table":
        print(NOTICE)
    return failed


def _say_what_goes(answers: Path) -> None:
    """Say how many answers of an earlier call into the same folder are replaced."""
    with suppress(OSError), answers.open("rb") as file:
        if earlier := sum(1 for _ in file):
            say(f"{answers}: replaces {earlier} {'answer' if earlier == 1 else 'answers'} of an earlier call")


def _as_json(answer: Prediction) -> str:
    return json.dumps(answer.to_json(), ensure_ascii=False)


def _csv_writer(classes: Sequence[str]) -> Callable[[Prediction], str]:
    started: list[bool] = []

    def line(answer: Prediction) -> str:
        row = answer.to_json()
        probabilities, model = row.pop("probabilities") or {}, row["model"]
        row["prediction_set"] = " ".join(row["prediction_set"] or [])
        row["model"] = model["name"]
        row["probabilities"] = " ".join(f"{name}={value}" for name, value in probabilities.items())
        row |= {f"p_{name}": probabilities.get(name) for name in classes}
        row["model_sha256"] = model["sha256"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not started:
            started.append(True)
            writer.writerow(row)
        writer.writerow("" if value is None else value for value in row.values())
        return text.getvalue().rstrip("\n")

    return line


def _table_writer() -> Callable[[Prediction], str]:
    started: list[bool] = []

    def line(answer: Prediction) -> str:
        head = "" if started else f"{'status':<9} {'label':<11} {'probability':>11}  {'outlier':>7}  picture\n"
        started.append(True)
        # a rejected slice has no label that a probability could belong to
        share = "" if answer.label is None or answer.confidence is None else stated(answer.confidence, ".0%")
        outlier = "" if answer.outlier_score is None else f"{answer.outlier_score:.2f}"
        where = answer.path if answer.slice is None else f"{answer.path} slice {answer.slice}"
        reason = f"  ({answer.reason})" if answer.reason and answer.status != "error" else ""
        shown = printable(f"{where}{reason}")
        return f"{head}{answer.status:<9} {answer.label or '-':<11} {share:>11}  {outlier:>7}  {shown}"

    return line


def print_studies(studies: Sequence[Study], out: Path | None) -> None:
    """One line per volume, and where its page is."""
    for study in studies:
        print(printable(f"{study.name}: {study.statement}"))
    if studies and out:
        print(f"written: {out / 'study.html'}, study.json, maps and montages beside it")


def print_model_scores(card: Card) -> None:
    """What a model's card says of its scores, and of its recipe's.

    Raises:
        KeyError, TypeError, ValueError: the card holds something else there.
    """
    scores = card.scores
    if scores.get("accuracy") is not None:
        which = "slices, some of them met in training" if scores.get("headline") == "all" else "held-out slices"
        print(f"  accuracy {with_interval(scores, 'accuracy')} on {scores['n']} {which}")
    if pooled := card.extra.get("recipe_pooled"):
        runs = f"{pooled['folds']} folds and {pooled['seeds']} seeds"
        print(f"  its recipe, by patient, over {runs}: accuracy {with_interval(pooled, 'accuracy')}")


def print_scores(metrics: dict[str, Any]) -> None:
    """The headline with its interval, and beside it what the model had seen."""
    print("in brackets: 95 % intervals over patients or groups")
    evaluation = (metrics.get("split") or {}).get("kind") == "evaluation"
    unseen = "not recognised from training" if evaluation else "not met in training"
    if "all" in metrics:
        _print_block(unseen, metrics["unseen"])
        _print_block("everything asked for", metrics["all"])
    else:
        _print_block(unseen, metrics)
    if metrics.get("status") and metrics["n"]:
        print_status(metrics["status"], metrics["n"])
    if metrics.get("confidence"):
        print_confidence(metrics["confidence"])
    if metrics.get("localisation"):
        print_localisation(metrics["localisation"])
    if metrics.get("corruptions"):
        print_corruptions(metrics["corruptions"])
    if metrics.get("split"):
        print(f"split: {metrics['split']['verdict']}")
    if by := metrics.get("by"):
        print(printable(f"by {by['column']}:"))
        for value, scores in by["values"].items():
            of = f"{scores['n']} slices, {scores['n_groups']} patients or groups"
            print(printable(f"  {value:<24}accuracy {with_interval(scores, 'accuracy')}, {of}"))
    if versus := metrics.get("against"):
        interval = versus["ci95"]["accuracy"]
        within = f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else ""
        better = "more than noise" if versus["excludes_zero"]["accuracy"] else "may be noise"
        if versus["n_groups"] < FEW:
            better = f"too few to tell: {versus['n_groups']} patients or groups"
        print(
            f"{versus['a']} minus {versus['b']} on {versus['n']} slices: accuracy {versus['accuracy']:+.3f}{within}, "
            f"{better}; McNemar p = {versus['mcnemar_p']:.3g}"
        )
    print(NOTICE)


def print_status(status: dict[str, Any], n: int) -> None:
    """How many slices were answered, referred and rejected."""
    right = status["accuracy_when_ok"]
    rightly = "" if right is None else f", {right:.1%} of these rightly"
    print(f"answered {status['ok']} of {n}{rightly}; referred {status['refer']}, rejected {status['rejected']}")


def _print_block(title: str, scores: dict[str, Any]) -> None:
    if not scores["n"]:
        print(f"{title}: no slice")
        return
    print(f"{title}: {scores['n']} slices, {scores['n_groups']} patients or groups")
    for key in ("accuracy", "balanced_accuracy", "macro_f1", "ece"):
        print(f"  {key.replace('_', ' '):<24}{with_interval(scores, key)}")
    if three := scores.get("three_tumour_classes"):
        print(f"  {'three tumour classes':<24}{with_interval(three, 'accuracy')}")


def print_int8(facts: dict[str, Any]) -> None:
    """What an int8 file costs and brings, beside the float32 file of the same model."""
    interval = facts["accuracy_change_ci95"]
    within = f" [{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]" if interval else ""
    print(f"{facts['out']}: {facts['bytes'] / 1e6:.1f} MB, {facts['parameters']:,} parameters, convolutions in int8")
    print(
        f"accuracy {facts['accuracy_float32']:.4f} in float32, {facts['accuracy']:.4f} in int8: "
        f"{100 * facts['accuracy_change']:+.2f}{within} points on {facts['n']} slices not met in training; "
        f"same label for {facts['same_label']:.1%}, same status for {facts['same_status']:.1%}, probabilities differ "
        f"by at most {facts['largest_probability_difference']:.3f}"
    )
    print(f"one slice is answered {facts['times_as_fast']:.2f} times as fast, on one thread of this machine")


def print_confidence(found: dict[str, Any]) -> None:
    """Whether the stated confidence can be relied on."""
    now, sets = found["calibration"], found["prediction_sets"]
    print("  can the probabilities be relied on?")
    slope = "" if now["slope"] is None else f"; slope {now['slope']:.2f} (1 is perfect, less is too sure)"
    chance = f"a perfect model on so few patients: up to {now['chance']['high']:.3f}"
    print(f"  {'- calibration error':<24}{now['ece']:.3f} ({chance}){slope}")
    if before := found.get("before_temperature"):
        print(f"  {'  before temperature':<24}{before['ece']:.3f}; nll {before['nll']:.3f}, then {now['nll']:.3f}")
    print(
        f"  {'- prediction sets':<24}hold the true class for {measured(sets['coverage'])}, asked {sets['asked']:g}; "
        f"each patient or group weighing the same {measured(sets['patient_averaged'])}; "
        f"{measured(sets['mean_size'])} classes each"
    )
    risk = found["risk_by_coverage"]["risk_at"]
    shares = ", ".join(f"{value:.3f} of the surest {float(share):.0%}" for share, value in risk.items())
    print(f"  {'- wrong':<24}{shares}")
    if missed := found.get("missed_tumours"):
        print(
            f"  {'- tumours missed':<24}{missed['n']}: {measured(missed['of_answers'])} of the answers with status ok, "
            f"{measured(missed['of_tumours'])} of the tumours"
        )


def print_corruptions(found: dict[str, Any]) -> None:
    """What fifteen corruptions cost, the worst first."""
    print(
        f"  {'spoilt slices':<24}accuracy {measured(found['mean_accuracy'])} over all corruptions and strengths, "
        f"{found['as_they_are']['accuracy']:.3f} as they are ({found['n']} slices)"
    )
    parts = {name: [one["accuracy"] for one in part["strengths"]] for name, part in found["by_corruption"].items()}
    for name, values in sorted(parts.items(), key=lambda item: sum(item[1]))[:3]:
        print(f"  {'- ' + name:<24}{' '.join(f'{value:.3f}' for value in values)} from strength 1 to 5")


def print_localisation(found: dict[str, Any]) -> None:
    """Whether the maps lie on the lesions, beside maps that see nothing and a perfect one."""
    print(
        f"  {'hottest pixel in lesion':<24}{found['hit_rate']:.3f} of {found['n']} tumours "
        f"(a random pixel: {found['mean_area']:.3f})"
    )
    if "maps" not in found:
        return
    grid = " x ".join(map(str, found["map_size"]))
    print(f"  maps of {grid} cells against masks, rightly named tumours:")
    print("  " + f"{'map':<14}" + "".join(f"{words:>23}" for words in MAP_COLUMNS.values()))
    for kind, measures in found["maps"].items():
        print("  " + f"{kind:<14}" + "".join(f"{measured(measures[key]):>23}" for key in MAP_COLUMNS))
    for label, part in found["by_class"].items():
        own = part["maps"]["this model"]
        print("  " + f"- {label:<12}" + "".join(f"{measured(own[key]):>23}" for key in MAP_COLUMNS))
    if erased := found.get("erased"):
        key = "any_tumour" if "any_tumour" in erased else "own_class"
        print(
            f"  lesion erased: the tumour score falls more than for an equal area elsewhere on "
            f"{measured(erased[key])} of {erased['n']} slices (by chance: 0.5)"
        )


def print_patients(named: Named, per_class: bool) -> None:
    """How many patients the names tell, and what may be wrong with them."""
    counts, unknown = named.counts, named.unknown
    told = len(named.patients) - len(unknown)
    path, name = next((path, name) for path, name in named.patients.items() if name is not None)
    least, most = min(counts.values()), max(counts.values())
    each = f"{least} to {most}" if least < most else f"{most}"
    print(printable(f"{told} of {len(named.patients)} slices have a patient: {len(counts)} patients, "
                    f"{each} {'slice' if most == 1 else 'slices'} each; {path} is of {name}"))  # fmt: skip
    if unknown:
        print(printable(f"slices whose patient the names do not tell: {len(unknown)}, such as {unknown[0]}"))
    if told > 1 and max(counts.values()) == 1:
        print("every slice has a patient of its own: does the pattern match the numbers of slices?")
    if named.several and not per_class:
        print(printable(f"patients with slices of several classes: {len(named.several)}, such as "
                        f"{named.several[0]}; where numbers begin anew in each class, add --per-class"))  # fmt: skip


def print_audit(result: Audit, out: Path | None) -> None:
    """The findings, worst first, then where the rest stands."""
    facts, pairs = result.facts, result.facts["twin_pairs"]["all"]
    print(
        f"{facts['slices']} slices in {len(facts['classes'])} classes, in {facts['groups']} groups; "
        f"{pairs} {'pair' if pairs == 1 else 'pairs'} of copies"
    )
    for finding in result.findings:
        print(
            f"{finding.level:<9}{finding.count} {finding.title}\n         {finding.meaning}\n         {finding.advice}"
        )
    if not result.complaints:
        notes = len(result.findings)
        print(f"nothing to complain about{f', {notes} to note' if notes else ''}")
    if not facts["probes"]:
        print(f"too few patients for the shortcut probes (n = {facts['groups']})")
    for name, metrics in facts["probes"].items():
        low, high = metrics["ci95"]["balanced_accuracy"] or (float("nan"), float("nan"))
        guess = 1 / len(facts["classes"])
        reached = f"{metrics['balanced_accuracy']:.3f} [{low:.3f}, {high:.3f}]"
        print(f"probe    {name}: balanced accuracy {reached} without seeing a lesion (guessing: {guess:.3f})")
    if out:
        print(f"report: {out / 'audit.html'}; pairs: {out / 'twins.csv'}")
    print(NOTICE)


def print_straddling(manifest: Manifest, found: Straddling, table: Path) -> None:
    """What a table of folds tears apart."""
    print(f"{table}: {found.slices} slices in {found.folds} folds")
    if unknown := sum(item.patient is None for item in manifest.slices):
        print(
            f"patients are unknown for {unknown} slices: of these only copies, and DICOM files of one patient or "
            "series, could be looked for"
        )
    if not found.leaks:
        print("no known patient and no pair of copies lies in two folds")
        return
    print(f"{len(found.patients)} patients lie in more than one fold{': ' if found.patients else ''}", end="")
    print(", ".join(found.patients[:5]) + (", ..." if len(found.patients) > 5 else ""))
    turned = f" ({found.turned} of them with one slice upside down or turned by a quarter)" * bool(found.turned)
    print(
        f"{len(found.twins)} pairs of copies lie in two folds{turned}; {found.copies} slices have a copy, or a copy's "
        "copy, in another fold"
    )
    for a, b in found.twins[:10]:
        print(f"  {manifest.slices[a].path}  {manifest.slices[b].path}")
    if len(found.twins) > 10:
        print("  ...")
