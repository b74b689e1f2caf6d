"""The drawn scans: the tumours are where they belong, and nothing but the tumour tells the classes apart."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from braincam.dataset import phantom, phantom_head, phantom_lesion
from braincam.dataset.phantom import CLASSES, PhantomSlice, make_slices, write_phantom
from braincam.dataset.phantom_head import INNER, PLANES, SELLA
from braincam.errors import DataError

TUMOURS = tuple(name for name in CLASSES if name != "notumor")
CEILING = 0.35  # balanced accuracy of a classifier that never saw a tumour; chance is 0.25


@pytest.fixture(scope="module")
def painted() -> list[PhantomSlice]:
    return list(make_slices(patients=48, slices_per_patient=3, seed=5))


@pytest.fixture(scope="module")
def unpainted() -> list[PhantomSlice]:
    return list(make_slices(patients=48, slices_per_patient=3, seed=5, lesions=False))


@pytest.fixture(scope="module")
def cuts(painted: list[PhantomSlice]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The head coordinates of each painted slice's pixels, drawn anew from the same random streams."""
    found = []
    for piece in painted:
        patient = int(piece.patient.removeprefix("patient-"))
        person = np.random.default_rng((5, patient, phantom._PERSON))
        phantom_head.make_head(person, phantom_head.CONTRASTS[patient // 4 % 4])
        build = phantom.draw_build(person)
        random = np.random.default_rng((5, patient, phantom._CUT, piece.index))
        found.append(phantom.draw_cut(random, piece.plane, build).coordinates(224))
    return found


def grown(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Every pixel within a distance of the mask."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~mask) <= by)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(painted: list[PhantomSlice]):
    again = list(make_slices(patients=4, slices_per_patient=3, seed=5))
    for first, second in zip(painted, again, strict=False):
        assert first.pixels.tobytes() == second.pixels.tobytes()
        assert first.mask.tobytes() == second.mask.tobytes()
    other = next(make_slices(patients=4, slices_per_patient=3, seed=6))
    assert (other.pixels != painted[0].pixels).mean() > 0.3


def test_a_patient_is_the_same_in_a_small_and_in_a_large_cohort():
    small = list(make_slices(patients=5, slices_per_patient=1, seed=1, size=64))
    large = list(make_slices(patients=12, slices_per_patient=2, seed=1, size=64))
    for piece in small:
        twin = next(p for p in large if (p.patient, p.index) == (piece.patient, piece.index))
        assert np.array_equal(piece.pixels, twin.pixels)
        assert piece.label == twin.label


def test_the_global_random_state_is_left_alone():
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    list(make_slices(patients=4, slices_per_patient=1, size=64))
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index, arg-type]  # noqa: NPY002


def test_slices_are_grey_pictures_with_masks_of_their_size(painted: list[PhantomSlice]):
    for piece in painted:
        assert piece.pixels.shape == piece.mask.shape == (224, 224)
        assert piece.pixels.dtype == np.uint8
        assert piece.mask.dtype == np.bool_
        assert 15 < piece.pixels.mean() < 130
        assert np.percentile(piece.pixels, 99) > 80


def test_classes_planes_and_contrasts_are_balanced(painted: list[PhantomSlice]):
    assert set(Counter(piece.label for piece in painted).values()) == {36}
    assert set(Counter((piece.label, piece.plane) for piece in painted).values()) == {12}
    uneven = Counter(piece.label for piece in make_slices(patients=10, slices_per_patient=1, size=32))
    assert max(uneven.values()) - min(uneven.values()) <= 1


def test_patients_have_one_label_and_slices_in_different_planes(painted: list[PhantomSlice]):
    for patient in {piece.patient for piece in painted}:
        own = [piece for piece in painted if piece.patient == patient]
        assert len({piece.label for piece in own}) == 1
        assert [piece.index for piece in own] == [0, 1, 2]
        assert {piece.plane for piece in own} == set(PLANES)


def test_only_tumours_have_a_mask_and_it_is_small_but_visible(painted: list[PhantomSlice]):
    shares = []
    for piece in painted:
        if piece.label == "notumor":
            assert not piece.mask.any()
        else:
            shares.append(piece.mask.mean())
    assert min(shares) > 0.004
    assert max(shares) < 0.05
    assert 0.012 < np.median(shares) < 0.024


def test_outside_the_tumour_painted_and_unpainted_slices_are_identical(
    painted: list[PhantomSlice], unpainted: list[PhantomSlice]
):
    for with_it, without in zip(painted, unpainted, strict=True):
        assert not without.mask.any()
        radius = np.sqrt(with_it.mask.sum() / np.pi)
        reach = grown(with_it.mask, int(0.9 * radius) + 6) if with_it.mask.any() else with_it.mask
        assert np.array_equal(with_it.pixels[~reach], without.pixels[~reach])


def test_a_tumour_can_be_seen(painted: list[PhantomSlice], unpainted: list[PhantomSlice]):
    for with_it, without in zip(painted, unpainted, strict=True):
        if with_it.mask.any():
            change = np.abs(with_it.pixels[with_it.mask].astype(float) - without.pixels[with_it.mask])
            assert change.mean() > 12


def test_gliomas_lie_inside_the_brain(painted: list[PhantomSlice], cuts: list):
    for piece, (x, y) in zip(painted, cuts, strict=True):
        if piece.label == "glioma":
            inner = INNER[piece.plane].distance(x, y)[piece.mask]
            assert inner.max() < 0.01
            assert inner.mean() < -0.1


def falx_distance(plane: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the falx, the fold of dura between the hemispheres; far away in a sagittal cut."""
    if plane == "sagittal":
        return np.full_like(x, 9)
    if plane == "coronal":
        return np.asarray(np.hypot(x, np.minimum(y - 0.36, 0)), np.float32)
    return np.hypot(x, np.minimum(np.where(y > 0, y - 0.42, -0.42 - y), 0))


def test_meningiomas_sit_on_the_dura_and_reach_into_the_head(painted: list[PhantomSlice], cuts: list):
    for piece, (x, y) in zip(painted, cuts, strict=True):
        if piece.label == "meningioma":
            inner = INNER[piece.plane].distance(x, y)[piece.mask]
            falx = falx_distance(piece.plane, x, y)[piece.mask]
            attached = (np.minimum(-inner, falx) < 0.025).sum()
            assert attached > np.sqrt(piece.mask.sum())  # a broad base, not a point
            assert inner.max() < 0.02


def test_adenomas_grow_out_of_the_sella(painted: list[PhantomSlice], cuts: list):
    for piece, (x, y) in zip(painted, cuts, strict=True):
        if piece.label == "pituitary":
            sella_x, sella_y = SELLA[piece.plane]
            assert abs(x[piece.mask].mean() - sella_x) < 0.05
            assert abs(y[piece.mask].mean() - sella_y) < 0.12
            assert np.hypot(x - sella_x, y - sella_y)[piece.mask].min() < 0.02


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("kind", TUMOURS)
def test_every_plane_has_room_for_every_tumour_of_any_size(plane: str, kind: str):
    for seed in range(60):
        radius = float(np.random.default_rng(seed).uniform(0.08, 0.27))
        lesion = phantom_lesion.place_lesion(np.random.default_rng(seed), kind, plane, radius)
        x, y = (np.array([value], np.float32) for value in lesion.centre)
        assert INNER[plane].distance(x, y)[0] < 0.02 or kind == "pituitary"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"patients": 3}, "patients"),
        ({"slices_per_patient": 0}, "slices_per_patient"),
        ({"seed": -1}, "seed"),
        ({"size": 16}, "size"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_drawn(arguments: dict[str, int], named: str):
    with pytest.raises(DataError, match=rf"{named}: expected .*, got"):
        make_slices(**arguments)  # type: ignore[arg-type]


def test_written_folder_has_pictures_masks_and_patients_that_agree(tmp_path: Path):
    out = tmp_path / "scans"
    assert write_phantom(out, patients=8, slices_per_patient=2, seed=2, size=64) == 16
    assert sorted(path.name for path in out.iterdir()) == ["data", "masks", "patients.csv"]
    with (out / "patients.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = sorted(p.relative_to(out / "data").as_posix() for p in (out / "data").rglob("*.png"))
    assert pictures == sorted(row["path"] for row in rows)
    pieces = list(make_slices(patients=8, slices_per_patient=2, seed=2, size=64))
    for row, piece in zip(rows, pieces, strict=True):
        assert (row["label"], row["patient"]) == (piece.label, piece.patient)
        assert row["path"].split("/")[0] == row["label"]
        assert np.array_equal(np.asarray(Image.open(out / "data" / row["path"])), piece.pixels)
        mask = out / "masks" / row["path"]
        assert mask.exists() == (piece.label != "notumor")
        if mask.exists():
            assert np.array_equal(np.asarray(Image.open(mask)), piece.mask * np.uint8(255))


@pytest.mark.parametrize("taken", ["data/scan.png", "masks/scan.png", "patients.csv"])
def test_what_is_there_is_never_overwritten(tmp_path: Path, taken: str):
    there = tmp_path / taken
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(b"mine")
    with pytest.raises(DataError, match="already exists; choose another folder"):
        write_phantom(tmp_path, patients=4, slices_per_patient=1, size=32)
    assert there.read_bytes() == b"mine"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="got a file"):
        write_phantom(tmp_path / "out", patients=4)


def test_an_interrupted_writing_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    (tmp_path / "data").mkdir()  # an empty folder is no obstacle
    monkeypatch.setattr(phantom, "paint_head", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path, patients=4, slices_per_patient=1, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    monkeypatch.undo()
    assert write_phantom(tmp_path, patients=4, slices_per_patient=1, size=32) == 4


# --- the control: without the tumour, nothing tells the classes apart ---


def border_of(slices: list[PhantomSlice]) -> NDArray[np.float64]:
    """The outer 12 % ring of a 32 × 32 thumbnail."""
    thumbnails = np.stack(
        [piece.pixels.reshape(32, -1, 32, piece.pixels.shape[0] // 32).mean((1, 3)) for piece in slices]
    )
    ring = np.ones((32, 32), np.bool_)
    ring[4:-4, 4:-4] = False
    return np.asarray(thumbnails[:, ring])


def statistics_of(slices: list[PhantomSlice]) -> NDArray[np.float64]:
    """Shares of 16 grey levels, mean and deviation."""
    return np.array(
        [
            [*np.histogram(p.pixels, 16, (0, 256))[0] / p.pixels.size, p.pixels.mean() / 255, p.pixels.std() / 255]
            for p in slices
        ]
    )


@pytest.fixture(scope="module")
def blank() -> list[PhantomSlice]:
    return list(make_slices(patients=200, slices_per_patient=2, seed=11, size=64, lesions=False))


@pytest.mark.parametrize("look", [border_of, statistics_of])
@pytest.mark.parametrize("forest", [False, True])
def test_without_tumours_border_and_grey_levels_stay_at_chance(blank: list[PhantomSlice], look, forest: bool):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = [piece.label for piece in blank]
    groups = [piece.patient for piece in blank]
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    classifier = RandomForestClassifier(100, min_samples_leaf=2, random_state=0) if forest else linear
    guessed = cross_val_predict(classifier, look(blank), labels, groups=groups, cv=GroupKFold(4))
    assert balanced_accuracy_score(labels, guessed) <= CEILING


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_learns_the_tumours_and_nothing_else(seed: int):
    seen = network_accuracy(seed, patients=160, size=128, epochs=20, lesions=True)
    blind = network_accuracy(seed, patients=160, size=128, epochs=20, lesions=False)
    assert seen >= 0.95
    assert blind <= CEILING


def test_a_quick_network_sees_nothing_without_tumours():
    assert network_accuracy(3, patients=128, size=64, epochs=5, lesions=False, width=8) <= CEILING


def network_accuracy(seed: int, *, patients: int, size: int, epochs: int, lesions: bool, width: int = 32) -> float:
    """Balanced accuracy of a plain CNN on patients it was not trained on."""
    import torch
    from torch import nn

    slices = list(make_slices(patients=patients, slices_per_patient=4, seed=seed, size=size, lesions=lesions))
    pixels = torch.from_numpy(np.stack([piece.pixels for piece in slices])).float()[:, None] / 64 - 1
    labels = torch.tensor([CLASSES.index(piece.label) for piece in slices])
    patient = torch.tensor([int(piece.patient.removeprefix("patient-")) for piece in slices])
    held_out = patient // 16 % 3 == 1  # whole rounds of classes and contrasts
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    a, b, c, d = width, 2 * width, 3 * width, 5 * width
    shape = ((1, a, 2), (a, b, 2), (b, c, 1), (c, d, 2), (d, d, 1))  # channels before and after, stride
    layers: list[nn.Module] = []
    for before, after, stride in shape:
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5 * width, len(CLASSES)))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.05)
    rows = torch.nonzero(~held_out)[:, 0]
    steps = epochs * -(-len(rows) // 16)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in rows[torch.randperm(len(rows), generator=random)].split(16):
            images = pixels[batch]
            if torch.rand((), generator=random) < 0.5:
                images = images.flip(3)
            loss = nn.functional.cross_entropy(network(images), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        right = network(pixels[held_out]).argmax(1) == labels[held_out]
    return float(np.mean([right[labels[held_out] == k].float().mean() for k in range(len(CLASSES))]))
