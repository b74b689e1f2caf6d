"""The command line: one verb, one short function; heavy imports inside the verb."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from braincam import __version__
from braincam.errors import BraincamError, ModelFileError, did_you_mean, extra_of, install, printable
from braincam.model_file.card import NOTICE
from braincam.stdout import drop_stdout, flush_stdout, reader_left

if TYPE_CHECKING:
    from braincam.predict import Prediction
    from braincam.study import Study

OK, SOME_FAILED, WRONG_CALL, LEAKS, ENDED_BY_SIGTERM = 0, 1, 2, 3, 143
ENDED = "ended by SIGTERM; what was finished is kept"
ASKED_AGAIN = 0.05  # seconds after a SIGTERM that met an import
STARTING = "braincam: starting: loading libraries and the model"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. Mistakes of the user are one line on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # as in files: see write_text
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        parser().print_help(sys.stderr)
        return WRONG_CALL
    options = parser().parse_args(given)
    if wrong := misused(options):
        return _fail(wrong)
    try:
        with _terminable():
            code: int = options.verb(options)
            flush_stdout()  # what is still held back may find the disk full, or its reader gone
        return code
    except Terminated:
        return _fail(ENDED, code=ENDED_BY_SIGTERM)
    except BraincamError as error:
        return _fail(str(error))
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("braincam"):
            raise
        cam = "cam" if getattr(options, "cam", None) else None
        extra = "serve" if options.verb is serve else cam or extra_of(options.verb.__name__)
        return _fail(f"this needs {missing.name}, which is not installed; {install(extra)}")
    except KeyboardInterrupt:
        return _fail("stopped; what was finished is kept", code=130)
    except OSError as error:
        drop_stdout(error)
        if reader_left(error):
            return OK
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}; check the path, the permissions and the free space")


def misused(options: argparse.Namespace) -> str:
    """What is wrong with a call before any work, "" for nothing."""
    if options.verb is not train and (several := os.environ.get("WORLD_SIZE", "")) not in {"", "0", "1"}:
        return (
            f"only train can be run by several processes, and WORLD_SIZE is {several}: start this verb without "
            "torchrun, or unset that variable"
        )
    out, data = getattr(options, "out", None), getattr(options, "data", None)
    if options.verb not in WRITE_FOLDERS or out is None:
        return ""
    if out.exists() and not out.is_dir():
        return f"--out {out}: expected a folder to write to, got a file; choose another name"
    if data is not None:
        from braincam.dataset.manifest import would_be_a_class

        if would_be_a_class(data, out):
            return f"--out {out}: expected a folder outside {data}, since it would be read as a class; choose another"
    return ""


class Terminated(KeyboardInterrupt):
    """A polite request to end: a batch system's time limit, a container's stop."""


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends what runs inside like Ctrl-C does; afterwards it means again what it did before."""
    if threading.current_thread() is not threading.main_thread():  # only that one may say what a signal does
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_number: int, frame: FrameType | None) -> None:
    if _importing(frame):  # compiled modules turn what is raised there into an ImportError: asked again once it is over
        again = threading.Timer(ASKED_AGAIN, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()
        return
    raise Terminated


def _importing(frame: FrameType | None) -> bool:
    """Whether a verb is in the middle of an import, where nothing of it is half done."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def keeping(table: Path) -> Iterator[None]:
    """What a table said before stays beside it, where it is replaced by another: it may have been written by hand."""
    from braincam.files import write_bytes

    before = table.read_bytes() if table.is_file() else None
    yield
    if before is not None and table.read_bytes() != before:
        beside = table.with_name(f"{table.name}.before")
        write_bytes(beside, before)
        print(f"{table} said otherwise; that is in {beside}", file=sys.stderr)


def quoted(path: Path) -> str:
    """A path as it can be typed into a shell."""
    return shlex.quote(str(path))


def _fail(message: str, code: int = WRONG_CALL) -> int:
    print(f"braincam: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


# -- the verbs ---------------------------------------------------------------------------------------------------------


def demo(options: argparse.Namespace) -> int:
    """The whole main job on synthetic scans."""
    from braincam.pipeline.demo import run_demo

    return run_demo(options.out)


def phantom(options: argparse.Namespace) -> int:
    """Labelled synthetic scans."""
    from braincam.dataset.phantom import CLASSES, write_phantom

    count = write_phantom(options.out, patients=options.patients, seed=options.seed)
    print(f"{count} slices of {options.patients} synthetic patients in {options.out}")
    if options.volumes:
        from braincam.dataset.phantom_volume import write_volumes

        print(f"{len(write_volumes(options.out, options.seed))} volumes in {options.out / 'volumes'}")
    if options.patients >= 5 * len(CLASSES):  # training holds out one of five folds, each with every class
        data, table = options.out / "data", options.out / "patients.csv"
        print(f"next: braincam train {quoted(data)} --patients {quoted(table)} --out runs/phantom")
    return OK


def patients(options: argparse.Namespace) -> int:
    """The table of patients, from the names of folders and files."""
    from braincam.dataset.manifest import read_folder
    from braincam.dataset.patients import FOLDER, name_patients
    from braincam.printing import print_patients

    if options.out.is_dir():
        return _fail(f"--out {options.out}: expected a file, got a folder; give {options.out / 'patients.csv'}, say")
    manifest = read_folder(options.data, least_classes=1)
    named = name_patients(manifest, options.pattern or FOLDER, per_class=options.per_class)
    with keeping(options.out):
        named.write(options.out)
    print_patients(named, options.per_class)
    call = f"braincam audit {quoted(options.data)} --patients {quoted(options.out)} --out out/audit"
    print(f"written: {options.out}; next: {call}")
    return OK


def audit(options: argparse.Namespace) -> int:
    """What is wrong with a labelled folder."""
    from braincam.pipeline.audit import audit as run
    from braincam.printing import print_audit

    result = run(options.data, options.patients, out=options.out, about=options.about)
    print_audit(result, options.out)
    return LEAKS if options.strict and result.leaks else OK


def split(options: argparse.Namespace) -> int:
    """Folds that no patient and no twin group straddles; or the check of a table of folds."""
    from braincam.pipeline.prepare import check_split
    from braincam.pipeline.prepare import split as make_split
    from braincam.printing import print_straddling

    if (options.check is None) == (options.out is None):
        return _fail("split: give --out FILE.csv to make folds, or --check FILE.csv to check some")
    if options.check:
        found, straddling = check_split(options.data, options.check, options.patients)
        print_straddling(found, straddling, options.check)
        return LEAKS if straddling.leaks else OK
    with keeping(options.out):
        facts = make_split(options.data, options.out, options.patients, options.folds, options.seed)
    print(
        f"{facts['slices']} slices in {facts['groups']} groups ({facts['patients']} known patients; the largest group "
        f"has {facts['largest_group']} slices); no known patient and no group of copies straddles a fold"
    )
    if unknown := facts["slices_without_patient"]:
        print(
            f"patients are unknown for {unknown} slices: of these only copies, and DICOM files of one patient or "
            "series, were kept together"
        )
    for fold, count in facts["folds"].items():
        shares = ", ".join(f"{share:.1%} {label}" for label, share in facts["class_shares"][fold].items())
        print(f"fold {fold}: {count} slices: {shares}")
    print(f"written: {options.out}")
    return OK


def train(options: argparse.Namespace) -> int:
    """Train, judge and export a classifier."""
    from braincam.pipeline.train import train as run
    from braincam.printing import print_scores

    trained = run(
        options.data,
        options.out,
        patients=options.patients,
        split=options.split,
        fold=options.fold,
        config=options.config,
        overrides=options.set,
        resume=options.resume,
        allow_leak=options.allow_leak,
        masks=options.masks,
        name=options.name,
        deterministic=options.deterministic,
        without=options.without,
        refuse=options.refuse,
        start_from=options.start_from,
    )
    print_scores(trained.metrics)
    print(f"took {trained.seconds / 60:.1f} min; report: {trained.folder / 'report.html'}")
    print(f"model: {trained.folder / 'model.onnx'}; next: braincam predict PICTURE --model {quoted(trained.folder)}")
    return OK


def crossval(options: argparse.Namespace) -> int:
    """Every fold in turn as the test."""
    from braincam.pipeline.crossval import crossval as run

    result = run(
        options.data,
        options.out,
        patients=options.patients,
        split_file=options.split,
        seeds=options.seeds,
        config=options.config,
        overrides=options.set,
        masks=options.masks,
        allow_leak=options.allow_leak,
        without=options.without,
        refuse=options.refuse,
    )
    print(result.summary)
    print(f"written: {result.folder / 'crossval.md'}, runs.csv and predictions.csv.gz beside it")
    print(NOTICE)
    return OK


def evaluate(options: argparse.Namespace) -> int:
    """Score a model on labelled slices."""
    from braincam.pipeline.evaluate import evaluate as run
    from braincam.printing import print_scores

    result = run(
        options.data,
        options.model,
        patients=options.patients,
        split=options.split,
        fold=options.fold,
        masks=options.masks,
        against=options.against,
        by=options.by,
        corruptions=options.corruptions,
        out=options.out,
    )
    print_scores(result.metrics)
    if options.out:
        print(f"report: {options.out / 'report.html'}")
    return OK


def predict(options: argparse.Namespace) -> int:
    """Answer for files, folders and patterns."""
    from braincam.pipeline.earlier import telling_what_stays
    from braincam.pipeline.study import telling_unless_nifti, with_studies
    from braincam.predict import Predictor
    from braincam.printing import print_predictions, print_studies
    from braincam.progress import track

    if options.cam and options.no_cam:
        return _fail("--cam and --no-cam exclude each other")
    if options.cam and not options.out:
        print(
            f"--cam {options.cam} changes the pictures that --out writes; without --out there are none", file=sys.stderr
        )
    predictor = Predictor(options.model, threads=options.threads)
    answers: Iterable[Prediction] = predictor.stream(
        options.paths, cam=not options.no_cam, plane=options.plane, volume=options.volume
    )
    unit = {}
    if options.cam:
        from braincam.explain.cam import UNIT, with_torchcam

        unit = {"unit": UNIT}
        answers = with_torchcam(answers, predictor, options.cam)
    if options.out:
        from braincam.explain.save import with_overlays

        answers = with_overlays(answers, options.out, write=not options.no_cam, **unit)
    studies: list[Study] = []
    answers = with_studies(answers, predictor.card, options.out, studies, maps=not options.no_cam)
    if options.plane or options.volume:
        answers = telling_unless_nifti(answers, "--plane" if options.plane else "--volume")
    answers = track(answers, "predicting", unit="slices")
    with telling_what_stays(options.out):
        failed = print_predictions(answers, options.format, options.out, predictor.card.classes)
    if options.format == "table":
        print_studies(studies, options.out)
    return SOME_FAILED if failed else OK


def serve(options: argparse.Namespace) -> int:
    """Answer over HTTP until stopped."""
    print(STARTING, file=sys.stderr, flush=True)
    from braincam.predict import Predictor
    from braincam.serve.auth import check_exposure, find_token
    from braincam.serve.limits import MEBIBYTE, Limits
    from braincam.serve.run import run
    from braincam.threads import usable_cores

    limits = Limits(
        bytes=options.max_megabytes * MEBIBYTE,
        memory=options.max_memory_megabytes * MEBIBYTE,
        files=options.max_files,
        slices=options.max_slices,
        pixels=options.max_pixels,
        upload_seconds=options.upload_seconds,
        answer_seconds=options.answer_seconds,
        waiting=options.queue,
    )
    token = find_token(options.token_file)
    check_exposure(options.host, token)
    run(
        Predictor(options.model, threads=1),  # one thread per answer, and as many answers at once as there are cores
        limits,
        host=options.host,
        port=options.port,
        threads=options.workers or usable_cores(),
        token=token,
    )
    return OK


def page(options: argparse.Namespace) -> int:
    """The page as static files that answer in the browser."""
    from braincam.model_file.zoo import find_model
    from braincam.page.write import write_page

    size = write_page(options.out, find_model(options.model), options.runtime)
    print(f"{options.out}: {size / 1e6:.1f} MB; put it on any web server, or look at it here:")
    print(f"python -m http.server --bind 127.0.0.1 --directory {quoted(options.out)} 8080")
    return OK


def models(options: argparse.Namespace) -> int:
    """The models at hand, or the model card of one of them."""
    from braincam.model_file.zoo import find_model, is_default
    from braincam.model_file.zoo import models as at_hand
    from braincam.printing import print_model_scores

    if options.card is not None:
        from braincam.report.card import model_card

        if options.format == "json":
            return _fail("models: --card is Markdown; leave --format json out, which lists every card as JSON")
        one = find_model(options.card or None)
        print(model_card(one.card(), one.sha256, packaged=is_default(one)), end="")
        return OK
    found, code = [], OK
    for model in at_hand():
        try:
            found.append((model, model.card()))
        except ModelFileError as error:  # one bad file must not hide the others
            code = _fail(str(error), SOME_FAILED)
    if options.format == "json":
        rows = [
            {
                "name": model.path.stem,
                "path": str(model.path),
                "sha256": model.sha256,
                "default": is_default(model),
                "card": card.summary(),
            }
            for model, card in found
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return code
    for model, card in found:
        mark = " (used without --model)" if is_default(model) else ""
        print(f"{model.path.stem}: {card.name}{mark}")
        print(f"  {', '.join(card.classes)}; {card.parameters:,} parameters")
        try:
            print_model_scores(card)
        except (KeyError, TypeError, ValueError) as error:  # a stranger's file may hold anything there
            code = _fail(f"{model.path}: the scores in its card are damaged ({error!r}); get it anew", SOME_FAILED)
        print(f"  {model.path}  sha256 {model.sha256[:16]}")
    print(NOTICE)
    return code


def export(options: argparse.Namespace) -> int:
    """Write the ONNX file of a trained model."""
    from braincam.pipeline.export import export as run
    from braincam.pipeline.export import export_int8
    from braincam.printing import print_int8

    if options.int8 and options.crossval:
        return _fail("export: --crossval is for the float32 file; leave --int8 or --crossval out")
    if options.int8:
        print_int8(export_int8(options.model, options.out, options.int8, options.patients))
        return OK
    if options.patients:
        return _fail("export: --patients belongs to --int8 DATA; leave it out, or give both")
    if options.covering and not options.crossval:
        return _fail("export: --covering belongs to --crossval DIR; leave it out, or give both")
    facts = run(options.model, options.out, options.crossval, options.covering or "slices")
    print(
        f"{facts['out']}: {facts['bytes'] / 1e6:.1f} MB, {facts['parameters']:,} parameters; "
        f"differs from PyTorch by at most {facts['largest_probability_difference']:.1e} in probability"
    )
    return OK


def doctor(options: argparse.Namespace) -> int:  # noqa: ARG001
    """What is installed, what would be used, and what is missing for each verb."""
    from braincam.doctor import report

    print(report())
    return OK


# -- the parser --------------------------------------------------------------------------------------------------------


WRITE_FOLDERS = (demo, phantom, audit, train, crossval, evaluate, predict, page)


class _Parser(argparse.ArgumentParser):
    """Errors in one line: what is wrong, and where help is."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """A verb answers for its own options; else the whole command would, whose help lists none of them."""
        options, strange = super().parse_known_args(args, namespace)
        if strange:
            named = [name.partition("=")[0] for name in strange if name.startswith("--")]
            ask = did_you_mean(named, self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(strange)}{f'; {ask}' if ask else ''}")
        return options, strange

    def error(self, message: str) -> Any:
        self.exit(WRONG_CALL, f"braincam: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="braincam",
        description="What a brain MRI slice resembles, how sure that is, and which pixels the score came from.",
        epilog=NOTICE + " Start with: braincam demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"braincam {__version__}")
    verbs = top.add_subparsers(title="verbs", required=True, metavar="VERB")
    for add in (
        _add_demo,
        _add_phantom,
        _add_patients,
        _add_audit,
        _add_split,
        _add_train,
        _add_crossval,
        _add_evaluate,
        _add_predict,
        _add_serve,
        _add_page,
        _add_models,
        _add_export,
        _add_doctor,
    ):  # in the order of the help
        add(verbs)
    return top


def _add_demo(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "demo",
        demo,
        "the whole main job on synthetic scans, in one to two minutes",
        "braincam demo --out demo",
    )
    verb.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="where everything goes (default: demo)"
    )


def _add_phantom(verbs: Any) -> None:
    verb = _verb(
        verbs, "phantom", phantom, "make labelled synthetic scans",
        "braincam phantom --out phantom --patients 160 --seed 0",
    )  # fmt: skip
    _out(verb, "DIR")
    verb.add_argument("--patients", type=int, default=160, metavar="N", help="over all classes (default: 160)")
    _seed(verb)
    verb.add_argument(
        "--volumes", action="store_true", help="also a NIfTI head per class: DIR/volumes, DIR/volume-masks"
    )


def _add_patients(verbs: Any) -> None:
    verb = _verb(
        verbs, "patients", patients, "write the table of patients from the names of folders and files",
        "braincam patients DATA --out patients.csv",
        r"braincam patients DATA --pattern '(.+)-\d+' --out patients.csv",
    )  # fmt: skip
    _folder(verb)
    verb.add_argument(
        "--pattern",
        metavar="REGEX",
        help="matched at the start of each path below its class folder; its first group, or all of it, is the patient "
        "(default: the folder that a slice lies in)",
    )
    verb.add_argument(
        "--per-class", action="store_true", help="one name in two classes is two patients: numbers begin anew in each"
    )
    verb.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="file to write the table to")


def _add_audit(verbs: Any) -> None:
    verb = _verb(
        verbs, "audit", audit, "find what is wrong with a labelled folder: copies, leaks, label conflicts, shortcuts",
        "braincam audit DATA --patients patients.csv --out out/audit", "braincam audit DATA --strict",
    )  # fmt: skip
    _data(verb)
    verb.add_argument(
        "--out", type=Path, metavar="DIR", help="write audit.json, audit.html, data.md, twins.csv, flags.csv"
    )
    verb.add_argument(
        "--about", type=Path, metavar="FILE.md", help="with --out: words for the head of data.md, in UTF-8"
    )
    verb.add_argument("--strict", action="store_true", help="exit with code 3 when a leak or a label conflict is found")


def _add_split(verbs: Any) -> None:
    verb = _verb(
        verbs, "split", split, "make cross-validation folds; slices of one patient, and copies, stay in one fold",
        "braincam split DATA --out folds.csv", "braincam split DATA --patients patients.csv --folds 5 --out folds.csv",
        "braincam split DATA --check folds.csv",
    )  # fmt: skip
    _data(verb)
    verb.add_argument("--folds", type=int, default=5, metavar="K", help="number of folds (default: 5)")
    _seed(verb)
    verb.add_argument("--out", type=Path, metavar="FILE.csv", help="file to write the folds to")
    verb.add_argument(
        "--check", type=Path, metavar="FILE.csv", help="check any table of columns path,fold; exits with 3 if it leaks"
    )


def _add_train(verbs: Any) -> None:
    verb = _verb(
        verbs, "train", train, "train a model on a labelled folder, test it, and write model.onnx",
        "braincam train DATA --out runs/first",
        "braincam train DATA --set epochs=10 --set attention=none --out runs/quick",
        "braincam train DATA --split folds.csv --fold 0 --out runs/fold0",
        "braincam train DATA --set split=official --config specification --out runs/spec",
    )  # fmt: skip
    _data(verb)
    _split(verb, fold=0)
    _recipe(verb)
    verb.add_argument(
        "--from",
        dest="start_from",
        metavar="MODEL",
        help="begin with the weights of a model: a run folder, a model.safetensors, or a name from `models`",
    )
    verb.add_argument("--resume", action="store_true", help="go on after the last finished epoch")
    verb.add_argument("--allow-leak", action="store_true", help="train on a --split that leaks; the report says so")
    verb.add_argument(
        "--masks", type=Path, metavar="DIR", help="lesion masks, for scoring the maps after training only"
    )
    verb.add_argument("--name", help="the model's name in its card (default: the name of RUN)")
    verb.add_argument(
        "--deterministic", action="store_true", help="the same bytes of the model files each time (docs/numerics.md)"
    )
    _out(verb, "RUN")


def _add_crossval(verbs: Any) -> None:
    verb = _verb(
        verbs, "crossval", crossval, "train and test on every fold; run it again to continue",
        "braincam crossval DATA --patients patients.csv --out runs/folds",
        "braincam crossval DATA --split folds.csv --seeds 3 --out runs/folds",
    )  # fmt: skip
    _data(verb)
    verb.add_argument("--split", type=Path, metavar="FILE.csv", help="folds (default: safe ones are made)")
    verb.add_argument("--seeds", type=_count, default=1, metavar="N", help="seeds per fold (default: 1)")
    _recipe(verb)
    verb.add_argument("--masks", type=Path, metavar="DIR", help="lesion masks, for scoring the maps only")
    verb.add_argument("--allow-leak", action="store_true", help="go on with a --split that leaks")
    _out(verb, "DIR")


def _add_evaluate(verbs: Any) -> None:
    verb = _verb(
        verbs, "evaluate", evaluate, "score a model on labelled slices, with intervals",
        "braincam evaluate DATA --model runs/first --out out/first",
        "braincam evaluate DATA --split folds.csv --fold 0 --against runs/other/model.onnx",
    )  # fmt: skip
    _data(verb)
    _split(verb, fold=None)
    _model(verb)
    verb.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="lesion masks: do the maps lie on the lesions, and does erasing them count?",
    )
    verb.add_argument(
        "--by", metavar="COLUMN", help="scores for each value of a further column of --patients, such as scanner or sex"
    )
    verb.add_argument(
        "--corruptions",
        type=_count,
        default=0,
        metavar="N",
        help="judge about N of the slices under fifteen corruptions at five strengths too: motion, noise, blur, ...",
    )
    verb.add_argument("--against", metavar="M2", help="a second model: the paired difference, with its interval")
    verb.add_argument("--out", type=Path, metavar="DIR", help="where metrics, predictions and report go")


def _add_predict(verbs: Any) -> None:
    verb = _verb(
        verbs, "predict", predict, "classify pictures, DICOM, NIfTI or folders",
        "braincam predict scan.png", "braincam predict study/ --format json --out answers",
        "braincam predict brain.nii.gz --plane coronal --out answers",
        "braincam predict study/ --cam layercam --out answers",
    )  # fmt: skip
    verb.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help='pictures, DICOM or NIfTI files, folders, or patterns such as "scans/*.png"',
    )
    _model(verb)
    verb.add_argument("--format", choices=("table", "csv", "json"), default="table", help="json: one line per slice")
    verb.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write a picture per slice and predictions.jsonl; for volumes also study.json, study.html and maps",
    )
    verb.add_argument(
        "--plane",
        choices=("axial", "coronal", "sagittal"),
        help="cut NIfTI volumes in this plane (default: as acquired)",
    )
    verb.add_argument("--volume", type=int, default=0, metavar="N", help="of a 4-D NIfTI file, from 0 (default: 0)")
    verb.add_argument("--no-cam", action="store_true", help="leave the maps out: a little faster")
    verb.add_argument("--cam", metavar="NAME", help="another heat map, by torchcam: gradcam, gradcampp, layercam, ...")
    verb.add_argument("--threads", type=_natural, default=0, metavar="N", help="CPU threads (default: all cores)")


def _add_serve(verbs: Any) -> None:
    verb = _verb(
        verbs, "serve", serve, "start a web server: HTTP interface and page",
        "braincam serve", "braincam serve --port 8080 --model runs/first",
        "braincam serve --host 0.0.0.0 --token-file token.txt",
    )  # fmt: skip
    _server(verb)


def _add_page(verbs: Any) -> None:
    verb = _verb(
        verbs, "page", page, "write the web page as static files; the model runs in the browser",
        "braincam page --out site", "braincam page --model runs/first --out site",
    )  # fmt: skip
    _model(verb)
    _out(verb, "DIR")
    verb.add_argument(
        "--runtime",
        type=Path,
        metavar="PATH",
        help="onnxruntime-web as npm packs it, for machines without internet (default: fetched with npm, once)",
    )


def _add_models(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "models",
        models,
        "list the models and their scores",
        "braincam models --format json",
        "braincam models --card",
        "braincam models --card runs/first",
    )
    verb.add_argument(
        "--format", choices=("table", "json"), default="table", help="json: a list with every card (default: table)"
    )
    verb.add_argument(
        "--card",
        nargs="?",
        const="",
        metavar="M",
        help="print the model card (Markdown) of an .onnx file, a run folder or a name (default: the packaged model)",
    )


def _add_export(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "export",
        export,
        "write the ONNX file of a trained model",
        "braincam export runs/first --out model.onnx",
        "braincam export runs/first --int8 DATA --patients patients.csv --out model-int8.onnx",
        "braincam export runs/first --crossval runs/crossval --out model.onnx",
    )
    verb.add_argument("model", type=Path, metavar="MODEL", help="a model.safetensors, or a run folder")
    verb.add_argument(
        "--int8", type=Path, metavar="DATA", help="compute in int8; DATA, the folder it was trained on, shows the cost"
    )
    verb.add_argument("--patients", type=Path, metavar="CSV", help="with --int8: as for training")
    verb.add_argument(
        "--crossval",
        type=Path,
        metavar="DIR",
        help="take temperature, thresholds and pooled scores from its recipe's crossval",
    )
    verb.add_argument(
        "--covering",
        choices=["slices", "patients"],
        help="with --crossval: what prediction sets hold the truth of for 95 %% (default: slices)",
    )
    verb.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="file to write")


def _add_doctor(verbs: Any) -> None:
    _verb(verbs, "doctor", doctor, "what is installed, what would be used, what is missing", "braincam doctor")


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], what: str, *examples: str) -> Any:
    """Add one verb whose help ends with examples."""
    lines = "\n".join(f"  {line}" for line in examples)
    verb = verbs.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"examples:\n{lines}\n\n{NOTICE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(verb=run)
    return verb


def _count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _natural(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    return int(text)


def _port(text: str) -> int:
    """A number of a TCP port, or 0."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, got {text!r}")
    return int(text)


def _out(verb: Any, metavar: str) -> None:
    verb.add_argument("--out", type=Path, required=True, metavar=metavar, help="folder to write to; made if missing")


def _seed(verb: Any) -> None:
    verb.add_argument("--seed", type=int, default=0, metavar="S", help="random seed (default: 0)")


def _data(verb: Any) -> None:
    _folder(verb)
    verb.add_argument("--patients", type=Path, metavar="CSV", help="columns path,patient; empty means unknown")


def _folder(verb: Any) -> None:
    verb.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="DATA/<class>/* or DATA/{Training,Testing}/<class>/*; validation folders count as Training",
    )


def _recipe(verb: Any) -> None:
    verb.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="a recipe, or one that ships: `default`, `specification`, `demo`",
    )
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key of the recipe; a run's config.toml holds all of them and what they mean",
    )
    verb.add_argument(
        "--without",
        type=Path,
        metavar="FILE.csv",
        help="slices not to learn from, by a column path, as in an audit's flags.csv; the test keeps them",
    )
    verb.add_argument(
        "--refuse",
        type=Path,
        metavar="FILE.csv",
        help="slices that are no brain MRI, by a column path: labels are learnt, and what is like them is refused",
    )


def _model(verb: Any) -> None:
    which = "an .onnx file, a run folder or a name (default: the packaged model)"
    verb.add_argument("--model", metavar="M", help=which)


def _server(verb: Any) -> None:
    verb.add_argument("--host", default="127.0.0.1", help="others than loopback need a token (default: 127.0.0.1)")
    verb.add_argument("--port", type=_port, default=8000, help="0 takes a free one (default: 8000)")
    _model(verb)
    verb.add_argument("--token-file", type=Path, metavar="FILE", help="its first line is the token; or BRAINCAM_TOKEN")
    for name, default, what in (
        ("--workers", 0, "answers worked on at once; 0 is one per core"),
        ("--queue", 64, "requests that may wait; the next is told to come back"),
        ("--max-megabytes", 256, "of one request"),
        ("--max-memory-megabytes", 1024, "of all requests and answers held at once"),
        ("--max-files", 1024, "in one request"),
        ("--max-slices", 1024, "in one request"),
        ("--max-pixels", 2**24, "in one slice"),
        ("--upload-seconds", 60, "for a whole request to arrive"),
        ("--answer-seconds", 60, "for an answer, waiting included"),
    ):
        kind = _natural if name in {"--workers", "--queue"} else _count
        verb.add_argument(name, type=kind, default=default, metavar="N", help=f"{what} (default: {default:,})")


def _split(verb: Any, fold: int | None) -> None:
    verb.add_argument("--split", type=Path, metavar="FILE.csv", help="folds made by `braincam split`")
    held_out = "held out as the test (default: 0)" if fold is not None else "to score"
    verb.add_argument("--fold", type=int, default=fold, metavar="F", help=f"the fold {held_out}")


if __name__ == "__main__":
    sys.exit(main())
