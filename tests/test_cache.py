"""The cache: the same arrays again without the work, never half an entry, never a stale one."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from braincam import cache
from braincam.cache import cached, key_of, trim
from braincam.dataset.manifest import read_folder
from braincam.errors import DataError
from braincam.network.preprocess import Preprocess, PreprocessConfig
from braincam.pipeline import pools, reading
from braincam.pipeline.pools import load
from braincam.pipeline.prepare import grouped
from braincam.pipeline.reading import find_copies
from braincam.training.batches import Pool, batches

NUMBERS = np.arange(12).reshape(3, 4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "kept"
    monkeypatch.setenv("BRAINCAM_CACHE", str(place))
    return place / "braincam"


def write(place: Path) -> None:
    np.save(place / "numbers.npy", NUMBERS)


def refuse(place: Path) -> None:
    raise AssertionError("made again")


def test_an_entry_is_made_once_and_writing_to_it_changes_nothing_on_disk(folder: Path) -> None:
    np.testing.assert_array_equal(cached("some", "key", write)["numbers"], NUMBERS)
    again = cached("some", "key", refuse)["numbers"]
    again[:] = 0
    np.testing.assert_array_equal(cached("some", "key", refuse)["numbers"], NUMBERS)


def test_a_damaged_entry_is_made_again(folder: Path) -> None:
    cached("some", "key", write)
    path = folder / "some-key" / "numbers.npy"
    os.truncate(path, path.stat().st_size // 2)
    np.testing.assert_array_equal(cached("some", "key", write)["numbers"], NUMBERS)
    np.testing.assert_array_equal(cached("some", "key", refuse)["numbers"], NUMBERS)


@pytest.mark.parametrize(
    ("name", "content"), [("numbers.npy", b""), ("numbers.npy", b"\x93NUMPY\x01\x00\x05\x00{'a(\n"), ("contents", b"")]
)
def test_an_entry_damaged_in_any_other_way_is_made_again_too(folder: Path, name: str, content: bytes) -> None:
    cached("some", "key", write)
    (folder / "some-key" / name).write_bytes(content)
    np.testing.assert_array_equal(cached("some", "key", write)["numbers"], NUMBERS)
    np.testing.assert_array_equal(cached("some", "key", refuse)["numbers"], NUMBERS)


def test_an_entry_that_cannot_be_read_now_is_left_to_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cached("some", "key", write)
    real, trouble = np.load, [OSError(24, "Too many open files")]

    def once(*arguments: object, **options: object) -> object:
        if trouble:
            raise trouble.pop()
        return real(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(np, "load", once)
    np.testing.assert_array_equal(cached("some", "key", write)["numbers"], NUMBERS)
    assert "Too many open files" in capsys.readouterr().err
    np.testing.assert_array_equal(cached("some", "key", refuse)["numbers"], NUMBERS)


def test_a_crash_while_making_leaves_no_entry(folder: Path) -> None:
    def crash(place: Path) -> None:
        write(place)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("some", "key", crash)
    assert list(folder.iterdir()) == []


def test_two_that_make_the_same_entry_at_once_both_get_it(folder: Path) -> None:
    barrier = threading.Barrier(2)
    found = []

    def slowly(place: Path) -> None:
        write(place)
        barrier.wait(10)

    threads = [threading.Thread(target=lambda: found.append(cached("some", "key", slowly))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    for arrays in found:
        np.testing.assert_array_equal(arrays["numbers"], NUMBERS)
    assert [path.name for path in folder.iterdir()] == ["some-key"]


def test_switched_off_nothing_is_kept_after_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINCAM_CACHE", "off")
    passing = tmp_path / "passing"
    passing.mkdir()
    monkeypatch.setattr(cache, "_passing", lambda: passing)
    np.testing.assert_array_equal(cached("some", "key", write)["numbers"], NUMBERS)
    assert [path.name for path in passing.iterdir()] == ["some-key"]
    assert cache.cache_folder() is None


def test_without_a_place_to_keep_things_work_goes_on_and_the_knob_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("BRAINCAM_CACHE", str(blocked / "cache"))
    np.testing.assert_array_equal(cached("some", "elsewhere", write)["numbers"], NUMBERS)
    assert "BRAINCAM_CACHE=DIR" in capsys.readouterr().err


def test_a_full_disk_is_named_with_the_knob(folder: Path) -> None:
    def full(place: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left on device.*BRAINCAM_CACHE=DIR"):
        cached("some", "full", full)


def test_what_was_unused_for_longest_goes_first_and_old_leavings_with_it(folder: Path) -> None:
    for number in range(3):
        cached("some", str(number), write)
        os.utime(folder / f"some-{number}", (1000 + number, 1000 + number))
    foreign = folder.parent / "holiday-photos"
    foreign.mkdir()
    os.utime(foreign, (0, 0))
    left, other = folder / ".making-old", folder / "readme.txt"
    left.mkdir()
    os.utime(left, (0, time.time() - 2 * cache.ABANDONED))
    other.write_text("not ours")
    size = cache.size_of(folder / "some-0")
    cached("some", "0", refuse)  # used again: now the youngest
    trim(folder, 2 * size)
    assert sorted(path.name for path in folder.iterdir()) == ["readme.txt", "some-0", "some-2"]
    assert foreign.exists()


def test_what_one_run_needs_stays_however_large_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT", 1000)
    monkeypatch.setattr(cache, "_needed", set())
    made: list[str] = []

    def make(name: str, size: int) -> Callable[[Path], None]:
        def fill(where: Path) -> None:
            made.append(name)
            np.save(where / "a.npy", np.zeros(size, np.uint8))

        return fill

    for _ in range(3):
        for name, size in (("few", 10), ("many", 5000)):
            cached(name, key_of([name]), make(name, size))
    assert made == ["few", "many"]
    monkeypatch.setattr(cache, "_needed", set())  # another run, of another folder
    cached("other", key_of(["other"]), make("other", 10))
    assert not any(path.name.startswith("many") for path in folder.rglob("many-*"))


def test_keys_tell_lists_apart() -> None:
    assert key_of(["ab", "c"]) != key_of(["a", "bc"]) != key_of(["abc"])
    assert key_of(["a", 1]) == key_of(["a", 1])


def test_twins_are_searched_once_per_content(scans: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder.parent / "data"
    shutil.copytree(scans / "data", data)
    (next(data.iterdir()) / "broken.png").write_bytes(b"no picture")
    first = find_copies(read_folder(data))

    def never(*_: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(reading, "find_twins", never)
    moved = data.rename(folder.parent / "moved")
    second = find_copies(read_folder(moved))
    np.testing.assert_array_equal(first.twins.pairs, second.twins.pairs)
    assert first.twins.kinds == second.twins.kinds
    assert first.digests == second.digests
    assert len(second.unreadable) == 1
    assert str(moved) in second.unreadable[0].reason  # today's path, not the one of the first search

    with monkeypatch.context() as patch:  # a refusal that has passed is not held against a slice
        patch.setattr(reading, "why_unreadable", lambda *_: None)
        with pytest.raises(AssertionError, match="searched again"):
            find_copies(read_folder(moved))

    changed = moved / first.manifest.slices[0].path
    changed.write_bytes((moved / first.manifest.slices[3].path).read_bytes())
    with pytest.raises(AssertionError, match="searched again"):
        find_copies(read_folder(moved))


def test_slices_are_decoded_once_and_parts_share_them(
    scans: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = grouped(scans / "data", scans / "patients.csv")
    preprocess = Preprocess(PreprocessConfig(image_size=32))
    rows = [5, 2, 9]
    pool = load(found, rows, preprocess)
    for place, row in enumerate(rows):
        alone, _ = preprocess.scale(torch.from_numpy(pools.read_one_slice(found.manifest.file(row)))[None])
        np.testing.assert_allclose(pool.pixels[place], pools.to_bytes(alone)[0], atol=1)
        assert pool.labels[place] == found.manifest.labels[row]

    def never(path: Path, *_: object) -> None:
        raise AssertionError(f"{path} decoded again")

    monkeypatch.setattr(pools, "read_one_slice", never)
    other = load(found, [9, 0], Preprocess(PreprocessConfig(image_size=32, mean=(0.5,), std=(0.3,))))
    torch.testing.assert_close(other.pixels[0], pool.pixels[2])
    with pytest.raises(AssertionError, match="decoded again"):  # another geometry is another entry
        load(found, rows, Preprocess(PreprocessConfig(image_size=32, frame=False)))


def test_a_pool_that_shares_a_store_gives_what_one_of_its_own_would() -> None:
    store = torch.randint(0, 256, (9, 4, 4), dtype=torch.uint8)
    rows = torch.tensor([7, 1, 4, 8])
    shared, own = Pool(store, rows.clone(), rows), Pool(store[rows], rows.clone())
    torch.testing.assert_close(torch.cat(list(shared.pieces(3))), own.pixels)
    for batch in batches(own, 2, seed=0, epoch=1):
        torch.testing.assert_close(shared.take(batch), own.take(batch))
    half = shared.part(torch.tensor([3, 0]))
    torch.testing.assert_close(half.pixels, store[[8, 7]])
    assert half.labels.tolist() == [8, 7]
