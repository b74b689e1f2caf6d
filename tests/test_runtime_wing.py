"""What a person meets around the answers: the doctor, what verbs print, and how a call ends that cannot be kept."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import braincam
from braincam import cli, doctor, printing, progress
from braincam.dataset.manifest import Manifest, Slice
from braincam.dataset.split import Straddling
from braincam.errors import ConfigError, MissingDependencyError, ModelFileError
from braincam.evaluation.confidence import confidence_report
from braincam.evaluation.metrics import paired_difference, score
from braincam.files import write_csv
from braincam.predict import Prediction, Predictor
from braincam.threads import usable_cores
from test_package import verbs

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


# -- the doctor --------------------------------------------------------------------------------------------------------


def test_the_doctor_knows_every_verb_and_names_no_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    named = {word for key in doctor.NEEDS for word in key.replace(",", " ").split()}
    assert set(verbs()) <= named
    assert f"braincam {braincam.__version__}" in text
    assert f"{doctor.usable_cores()} threads" in text and "braincam-small" in text
    assert str(Path.home()) not in text
    for verb in doctor.NEEDS:
        assert f"  {verb:<32}installed" in text, verb  # the tests' own environment holds every extra


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("torch", 'train, crossval, export, demo .*missing torch; .*pip install ".\\[train\\]"'),
        ("pandas", 'audit, split, evaluate .*missing pandas; .*pip install ".\\[audit\\]"'),
        ("torchcam", 'predict --cam NAME .*missing torchcam; .*pip install ".\\[cam\\]"'),
        ("gdcm", 'predict, compressed DICOM .*missing gdcm; .*pip install ".\\[dicom\\]"'),
        ("fastapi", 'serve .*missing fastapi; .*pip install ".\\[serve\\]"'),
    ],
)
def test_the_doctor_names_what_is_missing_and_the_extra_that_brings_it(
    gone: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == gone else object())
    text = doctor.report()
    assert re.search(said, text)
    assert ("torch is not installed" in text) == (gone == "torch")
    assert "models, page, doctor            installed" in text


def test_the_doctor_says_where_the_cache_is_and_that_there_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINCAM_CACHE", "off")
    assert doctor._cache() == "off (BRAINCAM_CACHE=off)"
    monkeypatch.setenv("BRAINCAM_CACHE", str(tmp_path / "kept"))
    assert doctor._cache().startswith(f"{tmp_path / 'kept' / 'braincam'}, 0.0 of at most")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert doctor._cache().startswith(f"{Path('~') / 'kept' / 'braincam'}, ")

    def none() -> None:
        raise ModelFileError("nothing here")

    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    if doctor._training_device().startswith("cpu"):
        assert "an NVIDIA driver is here, but this PyTorch finds no GPU" in doctor._training_device()
    monkeypatch.setattr(doctor, "find_model", none)
    assert doctor._default_model() == "none: nothing here"
    assert doctor._version("no-such-distribution") == "not installed"


@pytest.mark.parametrize(
    ("said", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("250000 100000", 2),
        ("x", 8),
    ],
)
def test_a_containers_share_of_the_processor_is_seen(
    said: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores(tmp_path / "absent") == 8
    (tmp_path / "cpu.max").write_text(f"{said}\n")
    assert usable_cores(tmp_path / "cpu.max") == cores


# -- what is printed ---------------------------------------------------------------------------------------------------


def judged(n: int = 60) -> dict[str, Any]:
    """The metrics of a middling network on synthetic answers."""
    random = np.random.default_rng(0)
    labels, groups = random.integers(0, 4, n), np.arange(n) % 25
    logits = random.normal(size=(n, 4))
    logits[np.arange(n), labels] += 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    metrics = score(labels, p, CLASSES, groups, n_boot=50)
    metrics["confidence"] = confidence_report(
        labels, p, CLASSES, [str(group) for group in groups], sets=p > 0.1, coverage=0.95,
        answered=np.ones(n, bool), none=2, temperature=1.5,
    )  # fmt: skip
    metrics["against"] = {"a": "one", "b": "other", **paired_difference(labels, p, p[:, ::-1], groups, n_boot=50)}
    return metrics


def test_scores_are_printed_with_their_intervals_and_what_was_met(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = judged()
    metrics["split"] = {"verdict": "as fair as can be"}
    printing.print_scores(metrics)
    text = capsys.readouterr().out
    low, high = metrics["ci95"]["accuracy"]
    assert f"accuracy                {metrics['accuracy']:.3f} [{low:.3f}, {high:.3f}]" in text
    assert "not met in training: 60 slices, 25 patients or groups" in text
    assert "three tumour classes" in text and "tumours missed" in text and "before temperature" in text
    assert "split: as fair as can be" in text
    assert "one minus other on 60 slices" in text and "more than noise" in text
    assert text.strip().endswith(printing.NOTICE)

    printing.print_scores({**judged(), "all": judged(), "unseen": score([], np.zeros((0, 4)), CLASSES)})
    text = capsys.readouterr().out
    assert "not met in training: no slice" in text and "everything asked for: 60 slices" in text


def test_what_is_undefined_is_said_and_noise_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    same = paired_difference([0, 1], [[0.6, 0.4]] * 2, [[0.6, 0.4]] * 2, ["p", "p"])
    lone = score([0, 1], [[0.6, 0.4]] * 2, ["a", "b"], ["p", "p"], n_boot=0)
    printing.print_scores({**lone, "against": {"a": "x", "b": "y", **same}})
    text = capsys.readouterr().out
    assert "accuracy                0.500\n" in text  # no interval from one patient
    assert "accuracy +0.000, too few to tell: 1 patients or groups" in text
    assert printing.with_interval({"accuracy": None}, "accuracy") == "undefined"


def test_maps_are_printed_beside_those_that_see_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    measures = {key: {"value": 0.25, "ci95": [0.1, 0.4]} for key in printing.MAP_COLUMNS}
    found = {"hit_rate": 0.5, "n": 12, "mean_area": 0.02}
    printing.print_localisation(found)
    assert capsys.readouterr().out.count("\n") == 1
    found |= {
        "map_size": [28, 28],
        "maps": {"this model": measures, "random": measures},
        "by_class": {"glioma": {"maps": {"this model": measures}}},
        "erased": {"n": 9, "own_class": {"value": 0.6, "ci95": None}},
    }
    printing.print_localisation(found)
    text = capsys.readouterr().out
    assert "maps of 28 x 28 cells" in text and text.count("0.250 [0.100, 0.400]") == 18
    assert "on 0.600 of 9 slices" in text
    found["erased"]["any_tumour"] = {"value": 0.7, "ci95": None}
    printing.print_localisation(found)
    assert "on 0.700 of 9 slices" in capsys.readouterr().out


def test_the_cost_of_int8_is_printed_with_its_interval_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {
        "out": "m.onnx", "bytes": 1_400_000, "parameters": 700_000, "accuracy_float32": 0.9, "accuracy": 0.89,
        "accuracy_change": -0.01, "accuracy_change_ci95": [-0.02, 0.001], "n": 50, "same_label": 0.98,
        "same_status": 0.9, "largest_probability_difference": 0.2, "times_as_fast": 1.8,
    }  # fmt: skip
    printing.print_int8(facts)
    text = capsys.readouterr().out
    assert "m.onnx: 1.4 MB, 700,000 parameters" in text
    assert "-1.00 [-2.00, +0.10] points on 50 slices" in text and "1.80 times as fast" in text
    printing.print_int8({**facts, "accuracy_change_ci95": None})
    assert "-1.00 points" in capsys.readouterr().out


def test_an_audit_is_printed_worst_first_or_as_being_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = {"balanced_accuracy": 0.4, "ci95": {"balanced_accuracy": None}}
    facts = {"slices": 7, "classes": ["a", "b"], "groups": 3, "twin_pairs": {"all": 2}, "probes": {"border": probe}}
    finding = SimpleNamespace(level="error", count=2, title="copies", meaning="They leak.", advice="Drop them.")
    printing.print_audit(SimpleNamespace(facts=facts, findings=[finding], complaints=[finding]), tmp_path)  # type: ignore[arg-type]
    text = capsys.readouterr().out
    assert "7 slices in 2 classes, in 3 groups" in text and "error    2 copies" in text and "Drop them." in text
    assert "border: balanced accuracy 0.400 [nan, nan]" in text and "audit.html" in text
    printing.print_audit(SimpleNamespace(facts={**facts, "probes": {}}, findings=[], complaints=[]), None)  # type: ignore[arg-type]
    text = capsys.readouterr().out
    assert "nothing to complain about" in text and "audit.html" not in text
    assert "too few patients for the shortcut probes (n = 3)" in text


def test_what_a_table_of_folds_tears_apart_is_named_and_long_lists_are_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Manifest(tmp_path, ("a",), tuple(Slice(f"a/{n}.png", "a", None, None) for n in range(14)))
    printing.print_straddling(manifest, Straddling(14, 2, (), ()), Path("t.csv"))
    text = capsys.readouterr().out
    assert "no known patient and no pair of copies lies in two folds" in text
    assert "patients are unknown for 14 slices" in text
    pairs = tuple((n, n + 1) for n in range(12))
    printing.print_straddling(manifest, Straddling(14, 2, tuple("pqrstu"), pairs), Path("t.csv"))
    text = capsys.readouterr().out
    assert "6 patients lie in more than one fold: p, q, r, s, t, ..." in text
    assert "12 pairs" in text and text.count("a/") == 20 and text.endswith("  ...\n")
    printing.print_straddling(manifest, Straddling(14, 2, ("p",), ((0, 1),)), Path("t.csv"))
    text = capsys.readouterr().out
    assert "one fold: p\n" in text and "..." not in text


def answer(**changes: Any) -> Prediction:
    facts: dict[str, Any] = {
        "path": "x.png", "slice": None, "status": "ok", "label": "glioma",
        "probabilities": {"glioma": 0.9, "other": 0.1},
        "prediction_set": ["glioma"], "confidence": 0.9, "outlier_score": 1.25, "reason": None, "overlay": None,
        "model": {"name": "m", "sha256": "0"},
    }  # fmt: skip
    return Prediction(**{**facts, **changes})


UNREAD = {
    "status": "error", "label": None, "probabilities": None, "prediction_set": None, "confidence": None,
    "outlier_score": None, "reason": "x.png: torn",
}  # fmt: skip


def test_answers_as_csv_and_table_hold_one_head_and_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    import csv

    answers = [answer(), answer(slice=3, status="refer", reason="too uncertain"), answer(**UNREAD)]
    assert printing.print_predictions(answers, "csv", None, ("glioma", "other")) == 1
    said = capsys.readouterr()
    rows = list(csv.DictReader(said.out.splitlines()))
    assert [row["status"] for row in rows] == ["ok", "refer", "error"]
    assert rows[0]["probabilities"] == "glioma=0.9 other=0.1" and rows[0]["model"] == "m"
    assert (rows[0]["p_glioma"], rows[0]["p_other"], rows[0]["model_sha256"]) == ("0.9", "0.1", "0")
    assert (rows[1]["slice"], rows[2]["label"], rows[2]["probabilities"], rows[2]["p_other"]) == ("3", "", "", "")
    assert said.err == "braincam: x.png: torn\n"
    printing.print_predictions(answers, "table", None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["status", "ok", "refer", "error"]
    assert "90%" in lines[1] and "slice 3  (too uncertain)" in lines[2] and "torn" not in lines[3]
    assert lines[-1] == printing.NOTICE


def test_the_table_gives_no_probability_where_it_gives_no_label(capsys: pytest.CaptureFixture[str]) -> None:
    rejected = answer(status="rejected", label=None, confidence=0.93, reason="unlike the training scans")
    printing.print_predictions([rejected, answer(confidence=1.0)], "table", None)
    head, first, second, *_ = capsys.readouterr().out.splitlines()
    assert "probability" in head and "%" not in first
    assert "> 99%" in second, "no model can know that it is 100 %"


# -- progress ----------------------------------------------------------------------------------------------------------


def test_long_work_is_told_in_plain_lines_and_short_work_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(progress.track([1, 2], "short")) == [1, 2]
    assert capsys.readouterr().err == ""
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    assert list(progress.track(iter("abcdefgh"), "long", unit="things")) == list("abcdefgh")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "long: 1 things, 0/s" and len(lines) == 2  # ten seconds of silence between two lines
    monkeypatch.setenv("RANK", "1")
    progress.say("a helper is silent")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress.track([1, 2, 3], "work")) == [1, 2, 3]


# -- how a call ends ---------------------------------------------------------------------------------------------------


def ends(monkeypatch: pytest.MonkeyPatch, verb: str, how: Callable[[], int]) -> int:
    """The exit code of a verb that does `how`."""
    monkeypatch.setattr(cli, verb, lambda _: how())
    return cli.main([verb] if verb in {"doctor", "serve"} else [verb, "x.png"])


def raising(error: BaseException) -> Callable[[], int]:
    def now() -> int:
        raise error

    return now


@pytest.mark.parametrize(
    ("verb", "error", "code", "said"),
    [
        ("doctor", KeyboardInterrupt(), 130, "stopped; what was finished is kept"),
        ("doctor", cli.Terminated(), 143, "ended by SIGTERM; what was finished is kept"),
        (
            "doctor",
            OSError(28, "No space left on device", "/full"),
            2,
            "/full: No space left on device; check the path",
        ),
        ("doctor", OSError("strange"), 2, "strange; check the path"),
        ("doctor", ModuleNotFoundError("no", name="pandas"), 2, r'needs pandas.*pip install "\.\[train\]"'),
        ("predict", ModuleNotFoundError("no", name="torchcam"), 2, r'"\.\[train\]"'),
    ],
)
def test_a_call_that_cannot_end_well_ends_in_one_line(
    verb: str,
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    assert ends(monkeypatch, verb, raising(error)) == code
    err = capsys.readouterr().err
    assert re.match(f"braincam: .*{said}", err) and err.count("\n") == 1


def test_a_missing_library_names_the_extra_of_its_verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve, predict = (raising(ModuleNotFoundError("no", name=name)) for name in ("uvicorn", "torchcam"))
    assert ends(monkeypatch, "serve", serve) == 2
    monkeypatch.setattr(cli, "predict", lambda _: predict())
    assert cli.main(["predict", "x.png", "--cam", "gradcam"]) == 2
    err = capsys.readouterr().err
    assert '".[serve]"' in err and '".[cam]"' in err
    with pytest.raises(ModuleNotFoundError):  # a defect of ours is not the user's mistake
        ends(monkeypatch, "doctor", raising(ModuleNotFoundError("no", name="braincam.gone")))


def test_sigterm_ends_a_verb_with_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert ends(monkeypatch, "doctor", lambda: os.kill(os.getpid(), signal.SIGTERM) or 0) == 143
    assert signal.getsignal(signal.SIGTERM) == before  # the caller's process is the caller's
    assert "ended by SIGTERM" in capsys.readouterr().err


def test_sigterm_within_an_import_ends_the_verb_once_it_is_over(tmp_path: Path) -> None:
    """A compiled module would make an ImportError of the exception, and a traceback of that."""
    (tmp_path / "slow.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except BaseException as error:\n    raise ImportError('import numpy failed') from error\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from braincam import cli\n"
        "def doctor(_):\n    import slow, time\n    time.sleep(60)\n"
        "cli.doctor = doctor\n"
        "sys.exit(cli.main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (143, f"braincam: {cli.ENDED}\n")


def test_without_a_verb_the_whole_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2, "nothing was done"
    said = capsys.readouterr()
    assert not said.out, "stdout is for answers"
    assert "classify pictures" in said.err and "demo" in said.err


def test_only_training_is_shared_by_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["doctor"]) == 2
    assert "start this verb without torchrun" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "")  # as good as none
    assert cli.main(["doctor"]) == 0


def test_no_number_of_threads_is_below_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["predict", "scan.png", "--threads", "-1"])
    assert "expected a whole number from 0, got '-1'" in capsys.readouterr().err


def test_threads_that_no_machine_has_cores_for_are_refused_before_they_take_its_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["predict", "scan.png", "--threads", "99999"]) == 2
    assert "threads: expected 0 to 1024, got 99999" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="got -1"):
        Predictor(threads=-1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["split", "D"], "give --out FILE.csv to make folds, or --check FILE.csv"),
        (
            ["split", "D", "--out", "a.csv", "--check", "b.csv"],
            "give --out FILE.csv to make folds, or --check FILE.csv",
        ),
        (["export", "m", "--int8", "D", "--crossval", "C", "--out", "x.onnx"], "--crossval is for the float32 file"),
        (["export", "m", "--covering", "patients", "--out", "x.onnx"], "--covering belongs to --crossval DIR"),
        (["export", "m", "--patients", "p.csv", "--out", "x.onnx"], "--patients belongs to --int8 DATA"),
        (["crossval", "D", "--seeds", "0", "--out", "o"], "expected a whole number from 1, got '0'"),
        (["serve", "--port", "70000"], "expected a number from 0 to 65535, got '70000'"),
    ],
)
def test_options_that_exclude_each_other_are_refused_before_anything_is_read(
    call: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = cli.main(call)
    except SystemExit as done:
        code = int(done.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            ("train", "data", "--out", "o", "--sed", "1"),
            "arguments: --sed 1; did you mean --set[?]; see braincam train --help",
        ),
        (("predict", "a.png", "--formt=csv"), "did you mean --format[?]; see braincam predict --help"),
        (("audit", "data", "other", "--out", "out"), "unrecognized arguments: other; see braincam audit --help"),
    ],
)
def test_a_misspelt_option_is_told_by_its_verb(
    call: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(call)
    error = capsys.readouterr().err
    assert re.search(told, error) and error.count("\n") == 1


@pytest.mark.parametrize("verb", ["audit", "train", "crossval"])
def test_nothing_is_written_where_it_would_be_read_as_a_class(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    assert cli.main([verb, str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "it would be read as a class" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_a_phantom_with_volumes_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from braincam.dataset import phantom_volume

    asked: list[tuple[Path, int]] = []
    monkeypatch.setattr(phantom_volume, "write_volumes", lambda out, seed: asked.append((out, seed)) or [out] * 4)
    out = tmp_path / "p"
    assert cli.main(["phantom", "--out", str(out), "--patients", "4", "--seed", "7"]) == 0
    text = capsys.readouterr().out
    assert asked == [] and "16 slices of 4 synthetic patients" in text
    assert "next:" not in text, "so few patients cannot be trained on"
    assert cli.main(["phantom", "--out", str(tmp_path / "q"), "--patients", "20", "--seed", "7", "--volumes"]) == 0
    assert asked == [(tmp_path / "q", 7)]
    text = capsys.readouterr().out
    assert "4 volumes in" in text and f"next: braincam train {tmp_path / 'q' / 'data'}" in text


def test_folds_are_made_and_checked_from_the_command_line(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds, patients = tmp_path / "folds.csv", ["--patients", str(scans / "patients.csv")]
    assert cli.main(["split", str(scans / "data"), *patients, "--folds", "2", "--out", str(folds)]) == 0
    text = capsys.readouterr().out
    assert "80 slices in 40 groups" in text and text.count("% glioma") == 2 and f"written: {folds}" in text
    assert cli.main(["split", str(scans / "data"), *patients, "--check", str(folds)]) == 0
    with folds.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    write_csv(folds, list(rows[0]), [list({**row, "fold": number % 2}.values()) for number, row in enumerate(rows)])
    assert cli.main(["split", str(scans / "data"), *patients, "--check", str(folds)]) == 3
    assert "patients lie in more than one fold" in capsys.readouterr().out


def test_models_are_shown_to_people_with_their_scores(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    text = capsys.readouterr().out
    cli.main(["models", "--format", "json"])
    (model,) = json.loads(capsys.readouterr().out)
    assert text.startswith(f"default: {model['card']['name']} (used without --model)\n")
    assert "  glioma, meningioma, notumor, pituitary; " in text
    assert f"{model['card']['parameters']:,} parameters" in text and model["sha256"][:16] in text
    assert f"on {model['card']['scores']['n']} held-out slices" in text
    assert ("its recipe, by patient" in text) == ("recipe_pooled" in model["card"]["extra"])


def test_a_public_name_whose_libraries_are_missing_says_which_and_how(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> None:
        raise ModuleNotFoundError("no", name="torch")

    monkeypatch.setattr(braincam, "import_module", gone)
    with pytest.raises(MissingDependencyError, match=r"braincam\.train needs torch.*\.\[train\]"):
        _ = braincam.train
    assert dir(braincam) == sorted(braincam.__all__)
