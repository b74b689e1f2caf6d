"""Bad luck: kills, full disks, folders that may not be written to, files that change, and two at one thing.

What is marked `faults` takes long and runs with `make faults`; it prints what it tried.
"""

from __future__ import annotations

import errno
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from braincam import cache, files
from braincam.cache import cached
from braincam.dataset.fingerprints import fingerprint
from braincam.dataset.manifest import read_folder
from braincam.errors import DataError, ImageError, TrainingError
from braincam.files import replacing, sweep, write_bytes
from braincam.images.reader import read_slices
from braincam.model_file.zoo import ModelFile
from braincam.network.preprocess import Preprocess, PreprocessConfig
from braincam.pipeline import reading
from braincam.pipeline.audit import file_facts
from braincam.pipeline.pools import load
from braincam.pipeline.prepare import grouped
from braincam.pipeline.reading import find_copies
from braincam.predict import Predictor
from braincam.progress import say
from braincam.training.checkpoint import load_checkpoint, save_checkpoint
from braincam.training.claim import claimed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills, mounts and limits as Linux has them")

FAULTY = Path(__file__).with_name("faulty.py")
CLI = [sys.executable, "-m", "braincam"]


def braincam(*arguments: object, **how: object) -> subprocess.CompletedProcess[str]:
    """A verb in a process of its own."""
    command = [*CLI, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, **how)  # type: ignore[call-overload,no-any-return]


def named(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """It ended with an error in one line on stderr that holds these words, and no traceback."""
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("braincam: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in last


# -- kills -------------------------------------------------------------------------------------------------------------

WRITER = """
import itertools, sys
from pathlib import Path
from braincam.files import write_bytes
for letter in itertools.cycle((b"a", b"b")):
    write_bytes(Path(sys.argv[1]), letter * 1_000_000)
"""


def test_a_kill_while_writing_leaves_a_whole_file_and_what_is_left_over_goes(tmp_path: Path) -> None:
    chance, target = random.Random(1), tmp_path / "file"
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(target)]) as process:
            while not target.exists():
                time.sleep(0.005)
            time.sleep(chance.uniform(0.05, 0.2))
            process.kill()
        content = target.read_bytes()
        assert content in (b"a" * 1_000_000, b"b" * 1_000_000)
    for path in tmp_path.glob(".braincam-*"):  # an hour later
        os.utime(path, (0, 0))
    (tmp_path / ".braincam-000.tmp").write_text("of a process at work")
    files._sweep_once.cache_clear()
    write_bytes(target, b"c")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".braincam-000.tmp", "file"]
    sweep(tmp_path, older_than=0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def killed(folder: Path, event: int, delay: float, *arguments: object) -> bool:
    """Whether a verb was killed; otherwise it ended before the event came."""
    command = [sys.executable, str(FAULTY), str(folder), str(event), str(delay), "--", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode in (-signal.SIGKILL, 0, 1), done.stderr
    return done.returncode == -signal.SIGKILL


def whole(path: Path) -> None:
    """Fails unless a file is a complete one of its kind."""
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    content = path.read_bytes()
    if ending in {".json"}:
        json.loads(content)
    elif ending == ".jsonl":
        assert all(json.loads(line) for line in content.splitlines())
        assert content.endswith(b"\n")
    elif ending in {".png", ".jpg"}:
        with Image.open(path) as picture:
            picture.load()
    elif ending == ".html":
        assert content.rstrip().endswith(b"</html>")
    elif ending == ".onnx":
        ModelFile(path).card()
    elif ending == ".ckpt":
        load_checkpoint(path)
    elif ending == ".safetensors":
        from braincam.model_file.export import load_model

        load_model(path)
    elif ending in {".csv", ".toml", ".md"}:
        assert content.endswith(b"\n")
    else:
        raise AssertionError(f"{path}: nobody says when such a file is whole")


def all_whole(folder: Path) -> None:
    """Every visible file of a folder."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            whole(path)


def kill_often(
    times: int, seed: int, place: Path, target: Path, arguments: list[object], events: int
) -> tuple[int, int]:
    """Kill a verb at random moments, with something older in the place of its file `target`.

    Returns how often it was hit, and how often the older file was still there then; all other files must be whole.
    """
    chance = random.Random(seed)
    old, new = b"something older", target.read_bytes()
    hit = kept = 0
    for _ in range(times):
        target.write_bytes(old)
        hit += killed(place, chance.randint(1, events), chance.choice((0, 0, 0.2, 1, 5)), *arguments)
        if target.read_bytes() == old:
            kept += 1
            target.write_bytes(new)
        all_whole(place)
    return hit, kept


@pytest.fixture(scope="module")
def splits(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object], bytes]:
    """A folder with an older table of folds, the command that makes a new one, and what that writes."""
    place = tmp_path_factory.mktemp("splits")
    command = ["split", scans / "data", "--patients", scans / "patients.csv", "--seed", 5, "--out", place / "folds.csv"]
    assert braincam(*command).returncode == 0
    new = (place / "folds.csv").read_bytes()
    (place / "folds.csv").write_bytes(b"path,fold\n")
    return place, command, new


@pytest.mark.parametrize(
    "event", [pytest.param(1, marks=pytest.mark.faults), pytest.param(2, marks=pytest.mark.faults), 3]
)
def test_a_split_that_is_killed_leaves_the_old_folds_or_the_new(
    splits: tuple[Path, list[object], bytes], event: int
) -> None:
    place, command, new = splits
    old = (place / "folds.csv").read_bytes()
    assert killed(place, event, 0, *command)  # as it opens its file, flushes it, renames it
    assert (place / "folds.csv").read_bytes() in (old, new)


@pytest.mark.faults
@pytest.mark.timeout(3000)
def test_verbs_that_are_killed_at_random_moments(
    scans: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = ["--patients", scans / "patients.csv"]
    verbs: dict[str, tuple[Path, list[object], int, int]] = {
        "split": (Path("folds.csv"), ["split", scans / "data", *table, "--out", "HERE/folds.csv"], 12, 5),
        "predict --out": (Path("predictions.jsonl"), ["predict", scans / "data" / "glioma", "--out", "HERE"], 12, 60),
        "audit": (Path("audit.json"), ["audit", scans / "data", *table, "--out", "HERE"], 8, 18),
        "export": (Path("model.onnx"), ["export", run, "--out", "HERE/model.onnx"], 4, 5),
    }
    for verb, (name, arguments, times, events) in verbs.items():
        place = tmp_path / verb.split()[0]
        place.mkdir()
        command = [str(part).replace("HERE", str(place)) for part in arguments]
        assert braincam(*command).returncode == 0
        hit, kept = kill_often(times, 7, place, place / name, list(command), events)
        assert hit > times / 2
        assert braincam(*command).returncode == 0  # goes on as if nothing had been
        all_whole(place)
        with capsys.disabled():
            say(f"{verb}: killed {hit} times; {kept} times the older {name} was still there; none lost, none half")


@pytest.mark.faults
@pytest.mark.timeout(3000)
def test_a_training_killed_again_and_again_ends_as_one_that_never_was(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from conftest import QUICK

    sets = [part for item in QUICK for part in ("--set", item)]
    command = ["train", scans / "data", "--patients", scans / "patients.csv", "--config", "demo", *sets, "--name", "it"]
    alone, often = tmp_path / "alone", tmp_path / "often"
    assert braincam(*command, "--out", alone).returncode == 0
    chance, hit = random.Random(3), 0
    for _ in range(8):
        resume = ["--resume"] if (often / "last.ckpt").exists() else []
        hit += killed(often, chance.randint(5, 40), chance.choice((0, 0.2, 1, 20)), *command, *resume, "--out", often)
        all_whole(often)
    assert hit > 4
    resume = ["--resume"] if (often / "last.ckpt").exists() else []
    done = braincam(*command, *resume, "--out", often)
    assert done.returncode == 0, done.stderr
    all_whole(often)
    assert not list(often.glob(".braincam-*"))
    first, second = (load_checkpoint(folder / "last.ckpt") for folder in (alone, often))
    assert all(torch.equal(value, second["averaged"][name]) for name, value in first["averaged"].items())
    with capsys.disabled():
        say(f"train: killed {hit} times, then ended in the same weights as one that never was, bit for bit")


# -- full disks and folders that may not be written to -----------------------------------------------------------------


def test_a_full_disk_keeps_the_old_file_and_the_error_names_it(tmp_path: Path) -> None:
    write_bytes(tmp_path / "kept", b"old")
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "kept") as temporary:
        temporary.write_bytes(b"new")
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Files of this process may have so many bytes from now on: writing more fails like on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_finds_no_room_is_an_error_of_the_disk(
    tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    """Written by torch itself it was a RuntimeError, and the training ended in a traceback."""
    save_checkpoint(tmp_path / "last.ckpt", {"weights": torch.zeros(10)})
    file_limit(100_000)
    with pytest.raises(OSError, match="too large") as caught:
        save_checkpoint(tmp_path / "last.ckpt", {"weights": torch.zeros(1_000_000)})
    assert caught.value.filename == str(tmp_path / "last.ckpt")
    assert load_checkpoint(tmp_path / "last.ckpt")["weights"].shape == (10,)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", place]).returncode:
        pytest.skip("only root may mount a disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_verbs_on_a_full_disk_say_so_and_keep_what_was_there(small_disk: Path, scans: Path) -> None:
    (small_disk / "folds.csv").write_text("old")
    (small_disk / "predictions.jsonl").write_text("old")
    (small_disk / "filler").write_bytes(bytes(56_000))
    table = ["--patients", scans / "patients.csv"]
    done = braincam("split", scans / "data", *table, "--out", small_disk / "folds.csv")
    named(done, f"{small_disk / 'folds.csv'}: No space left on device", "free space")
    pictures = sorted((scans / "data" / "pituitary").iterdir())[:1]
    done = braincam("predict", *pictures, "--out", small_disk)
    if done.returncode != 0:  # else the slice was refused, and needs no picture
        named(done, "No space left on device")
    assert (small_disk / "folds.csv").read_text() == "old"
    assert {path.name for path in small_disk.iterdir()} == {"folds.csv", "predictions.jsonl", "filler"}


@pytest.mark.faults
def test_a_training_on_a_full_disk_says_how_to_go_on(small_disk: Path, scans: Path) -> None:
    from conftest import QUICK

    sets = [part for item in QUICK for part in ("--set", item)]
    table = ["--patients", scans / "patients.csv"]
    done = braincam("train", scans / "data", *table, "--config", "demo", *sets, "--out", small_disk / "run")
    named(done, "the disk failed (No space left on device)", "nothing is kept", "start again without --resume")


@pytest.mark.parametrize("style", ["json", "csv"])  # written line by line, and held back until the end
def test_standard_output_on_a_full_disk_is_an_error_in_one_line(scans: Path, style: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*CLI, "predict", str(next((scans / "data" / "glioma").iterdir())), "--format", style]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    named(done, "No space left on device")
    assert len(done.stderr.splitlines()) == 1


def test_who_reads_no_further_loses_nothing_of_what_is_kept(scans: Path, tmp_path: Path) -> None:
    folder = scans / "data" / "glioma"
    command = [*CLI, "predict", str(folder), "--format", "json", "--no-cam"]
    for kept in ([], ["--out", str(tmp_path)]):
        with subprocess.Popen([*command, *kept], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            said = process.stderr.read()
        assert (process.returncode, said) == (0, "")
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == len(list(folder.iterdir()))


def unprivileged() -> list[str]:
    """What makes root heed the rights of files."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and setpriv is not here")
    powers = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}", "--"]


@pytest.mark.parametrize("training", [False, pytest.param(True, marks=pytest.mark.faults)])
def test_a_folder_that_may_not_be_written_to(tmp_path: Path, scans: Path, training: bool) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "folds.csv").write_text("old")
    place.chmod(0o555)
    try:
        for arguments in (
            ["split", scans / "data", "--patients", scans / "patients.csv", "--out", place / "folds.csv"],
            ["predict", scans / "data" / "glioma", "--out", place / "answers"],
            *([["train", scans / "data", "--out", place / "run"]] if training else []),
        ):
            command = [*unprivileged(), *CLI, *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=200)
            named(done, str(place), "Permission denied", "check the path, the permissions")
        assert (place / "folds.csv").read_text() == "old"
        assert [path.name for path in place.iterdir()] == ["folds.csv"]
    finally:
        place.chmod(0o755)


# -- files that change or vanish ---------------------------------------------------------------------------------------


def test_a_picture_that_vanishes_or_is_cut_off_meanwhile_is_a_row(tmp_path: Path, scans: Path) -> None:
    sources = sorted((scans / "data" / "glioma").iterdir())[:4]
    paths = [Path(shutil.copy(source, tmp_path)) for source in sources]

    def meanwhile() -> Iterator[Path]:
        yield paths[0]
        paths[1].unlink()
        yield paths[1]
        os.truncate(paths[2], 200)
        yield paths[2]
        yield paths[3]

    found = [answer.status for answer in Predictor().stream(meanwhile())]
    assert [status == "error" for status in found] == [False, True, True, False]


def copied(scans: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scans / "data", tmp_path / "data"))


def test_a_slice_that_changes_while_twins_are_searched_is_not_remembered(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what was found in the new bytes would be kept under the hash of the old ones."""
    monkeypatch.setenv("BRAINCAM_CACHE", str(tmp_path / "cache"))
    data = copied(scans, tmp_path)
    first, second = sorted((data / "glioma").iterdir())[:2]
    real = reading.search

    def meanwhile(manifest: object) -> object:
        shutil.copy(second, first)
        return real(manifest)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "search", meanwhile)
    with pytest.raises(DataError, match="was changed while it was being read; run the command again"):
        find_copies(read_folder(data))
    assert not list((tmp_path / "cache" / "braincam").iterdir())
    monkeypatch.setattr(reading, "search", real)
    assert len(find_copies(read_folder(data)).digests) == 80


def test_a_slice_that_changes_before_it_is_decoded_is_not_trained_on(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINCAM_CACHE", str(tmp_path / "cache"))
    found = grouped(copied(scans, tmp_path))
    shutil.copy(found.manifest.file(1), found.manifest.file(0))
    with pytest.raises(DataError, match="was changed while it was being read"):
        load(found, [0, 1], Preprocess(PreprocessConfig(image_size=32)))


def vanish(path: Path) -> None:
    path.unlink()


def become_a_folder(path: Path) -> None:
    """What cannot be read, whoever asks: permissions do not stop root."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (vanish, "expected the picture that was there when its folder was read, found nothing; put it back"),
        (become_a_folder, "expected a readable picture, got Is a directory; check the disk"),
    ],
)
@pytest.mark.parametrize("kept", ["cache", "off"])
def test_a_slice_that_is_lost_before_it_is_decoded_is_named_and_not_the_cache(
    scans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    happens: Callable[[Path], None],
    said: str,
    kept: str,
) -> None:
    monkeypatch.setenv("BRAINCAM_CACHE", kept if kept == "off" else str(tmp_path / kept))
    found = grouped(copied(scans, tmp_path))
    lost = found.manifest.file(70)
    happens(lost)
    capsys.readouterr()
    with pytest.raises(ImageError, match=f"^{re.escape(str(lost))}: {said}"):
        load(found, [0, 1], Preprocess(PreprocessConfig(image_size=32)))
    assert "cannot keep" not in capsys.readouterr().err
    if kept != "off":
        assert not list((tmp_path / kept / "braincam").glob("slices-*"))


def test_a_slice_that_is_lost_while_twins_are_searched_is_left_out_by_name(scans: Path, tmp_path: Path) -> None:
    manifest = read_folder(copied(scans, tmp_path))
    vanish(manifest.file(3))
    left, _, unreadable = fingerprint(manifest)
    assert len(left.slices) == len(manifest.slices) - 1
    assert [item.path for item in unreadable] == [manifest.slices[3].path]
    assert "found nothing; put it back" in unreadable[0].reason


def test_a_slice_that_is_lost_between_the_search_and_the_audit_is_named(scans: Path, tmp_path: Path) -> None:
    manifest, prints, _ = fingerprint(read_folder(copied(scans, tmp_path)))
    vanish(manifest.file(3))
    with pytest.raises(DataError, match=f"^{re.escape(str(manifest.file(3)))}: expected the picture that was there"):
        file_facts(manifest, prints)


def test_a_disk_that_fails_while_a_picture_is_read_is_an_error_of_that_picture(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    picture = next((scans / "data" / "glioma").iterdir())
    monkeypatch.setattr(Path, "open", lambda *_: Failing())
    with pytest.raises(
        ImageError, match=f"^{re.escape(str(picture))}: expected a readable file, got Input/output error"
    ):
        read_slices(picture)


def test_a_pipe_among_the_pictures_is_not_waited_for(scans: Path, tmp_path: Path) -> None:
    data = copied(scans, tmp_path)
    os.mkfifo(data / "glioma" / "pipe.png")
    manifest = read_folder(data)
    assert "glioma/pipe.png" in manifest.ignored
    assert len(manifest.slices) == 80


# -- two at one thing --------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from braincam.training.claim import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_folder_is_held_by_one_process_and_free_once_that_is_killed(
    tmp_path: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from braincam.pipeline.train import train

    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        (folder / ".braincam-half.tmp").write_text("half")
        with pytest.raises(TrainingError, match=f"process {holder.pid} on .* is at work in this folder; wait until"):
            train(scans / "data", folder)
        assert (folder / ".braincam-half.tmp").exists()  # it may be the other's
        holder.kill()
    with claimed(folder):
        assert not (folder / ".braincam-half.tmp").exists()
    with pytest.raises(TrainingError, match="is at work"), claimed(folder), claimed(folder):
        pass


@pytest.mark.parametrize("problem", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_on_a_disk_without_locks_a_run_begins_and_leaves_nothing_that_would_keep_the_next_out(
    problem: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="locks of POSIX")

    def no_locks(*_: object) -> None:
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for _ in range(2):
        with claimed(tmp_path):
            assert "this disk has no locks" in capsys.readouterr().err
        assert not (tmp_path / ".holder").exists()


FILLER = """
import sys, time
from pathlib import Path
import numpy as np
from braincam.cache import cached
def make(folder):
    for name in "abc":
        np.save(folder / f"{name}.npy", np.full(300_000, ord(name)))
        time.sleep(0.01)
found = cached("some", sys.argv[1], make)
assert {name: int(found[name].sum()) for name in "abc"} == {name: 300_000 * ord(name) for name in "abc"}
"""


def test_processes_that_fill_one_cache_and_are_killed_leave_no_half_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINCAM_CACHE", str(tmp_path))
    chance = random.Random(2)
    for turn in range(4):
        started = [subprocess.Popen([sys.executable, "-c", FILLER, str(turn)]) for _ in range(3)]
        time.sleep(chance.uniform(0.1, 0.5))
        started[0].kill()
        assert [process.wait(60) for process in started[1:]] == [0, 0]
        started[0].wait()
        entry = tmp_path / "braincam" / f"some-{turn}"
        assert sorted(path.name for path in entry.glob("*.npy")) == ["a.npy", "b.npy", "c.npy"]


def test_an_entry_that_is_being_deleted_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rm -r` of the cache takes one array after the other; what is left is no entry."""
    monkeypatch.setenv("BRAINCAM_CACHE", str(tmp_path))

    def make(folder: Path) -> None:
        for name in ("a", "b"):
            np.save(folder / f"{name}.npy", np.arange(5))

    cached("some", "key", make)
    (tmp_path / "braincam" / "some-key" / "b.npy").unlink()
    assert set(cached("some", "key", make)) == {"a", "b"}
    assert cache.cache_folder() == tmp_path / "braincam"
