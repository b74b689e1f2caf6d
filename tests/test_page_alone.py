"""The page without a server: made whole or not at all, and answering in a real browser as Python answers."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import io
import json
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
from PIL import Image

from braincam import cli
from braincam.errors import BraincamError, ConfigError, MissingDependencyError
from braincam.model_file.decision import why_referred
from braincam.page import runtime, write
from braincam.page.runtime import FILES, PACKAGE, runtime_files
from braincam.predict import Prediction, Predictor
from browsing import expect, launched


def test_what_is_not_the_expected_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / PACKAGE).write_bytes(b"something else")
    for given in (tmp_path, tmp_path / PACKAGE):
        with pytest.raises(ConfigError, match="expected onnxruntime-web"):
            runtime_files(given)
    with pytest.raises(ConfigError, match="npm pack onnxruntime-web"):
        runtime_files(tmp_path / "missing")


def test_files_that_were_brought_along_are_taken_if_they_are_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dist").mkdir()
    for name in FILES:
        (tmp_path / "dist" / name).write_text(name)
    with pytest.raises(ConfigError, match=r"ort\.wasm\.min\.mjs: expected that of onnxruntime-web"):
        runtime_files(tmp_path)
    known = {name: hashlib.sha256(name.encode()).hexdigest() for name in FILES}
    monkeypatch.setattr(runtime, "FILES", known)
    assert runtime_files(tmp_path) == {name: name.encode() for name in FILES}


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_next_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BRAINCAM_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(runtime, "_from_npm", lambda: b"package")
    monkeypatch.setattr(runtime, "_unpacked", lambda *_: {"a": b"b"})
    assert runtime_files() == {"a": b"b"}


def test_an_interrupted_page_is_made_again(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: Path, data: bytes) -> None:
        if any(file.parent.iterdir()):
            raise KeyboardInterrupt
        file.write_bytes(data)

    monkeypatch.setattr(write, "runtime_files", lambda _: {"a.mjs": b""})
    with monkeypatch.context() as patch:
        patch.setattr(write, "write_bytes", interrupted)
        assert cli.main(["page", "--out", str(tmp_path / "site"), "--model", str(run)]) == 130
    assert cli.main(["page", "--out", str(tmp_path / "site"), "--model", str(run)]) == 0
    assert (tmp_path / "site" / "index.html").is_file()


def test_without_npm_it_says_what_to_bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINCAM_CACHE", str(tmp_path))
    monkeypatch.setattr(runtime, "which", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"npm is missing; install Node\.js, or bring onnxruntime-web"):
        runtime_files()


def test_a_folder_with_other_things_in_it_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("months of work")
    assert cli.main(["page", "--out", str(tmp_path), "--model", str(run)]) == 2
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.txt"]


DECIDE = """
const { decide } = await import(process.argv[1]);
const [cards, rows] = JSON.parse(process.argv[2]);
const answers = rows.map((row, k) => decide("x", false, row, 1, { name: "m", sha256: "0", card: cards[k] }));
console.log(JSON.stringify(answers));
"""


@pytest.mark.skipif(which("node") is None, reason="needs Node.js")
def test_the_browser_decides_and_says_the_same_as_python() -> None:
    script = (Path(runtime.__file__).parent / "local" / "decide.js").read_bytes()
    module = "data:text/javascript;base64," + base64.b64encode(script).decode()
    classes, row = ["glioma", "notumor", "pituitary"], [0.2, 0.7, 0.1]
    thresholds = ([0.1, 0.5, 0.5], [0.1, 0.8, 0.05], [0.9, 0.9, 0.9], [0.5, 0.5, 0.5])
    cards = [
        {"classes": classes, "conformal_thresholds": limits, "conformal_coverage": 0.95, "outlier_threshold": 2.0}
        for limits in thresholds
    ]
    given = json.dumps([cards, [row] * len(cards)])
    call = ["node", "--input-type=module", "-e", DECIDE, module, given]
    answers = json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
    for limits, found in zip(thresholds, answers, strict=True):
        members = [name for name, inside in zip(classes, np.array(row) >= limits, strict=True) if inside]
        expected = None if members == ["notumor"] else why_referred("notumor", members, 0.95)
        assert found["prediction_set"] == members
        assert (found["status"], found["reason"]) == ("refer" if expected else "ok", expected)


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small model. npm fetches the runtime once, into the user's cache, as it does for users."""
    out = tmp_path_factory.mktemp("page") / "site"
    try:
        files = runtime_files()
    except BraincamError as error:
        pytest.skip(f"onnxruntime-web cannot be had here: {error}")
    brought = out.parent / "runtime"
    brought.mkdir()
    for name, data in files.items():
        (brought / name).write_bytes(data)
    assert cli.main(["page", "--out", str(out), "--model", str(run), "--runtime", str(brought)]) == 0
    return out


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Any host of static files will do."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def tab(address: str) -> Iterator[Any]:
    wrong: list[str] = []
    asked: set[str] = set()
    with launched() as browser:
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.set_default_timeout(60_000)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda line: wrong.append(line.text) if line.type in {"error", "warning"} else None)
        tab.on("request", lambda request: asked.add(request.url))
        tab.goto(address)
        yield tab
    assert wrong == []
    assert all(url.startswith((address, "blob:", "data:")) for url in asked)


@pytest.fixture(scope="module")
def grey(scans: Path) -> np.ndarray:
    """A synthetic slice."""
    return np.asarray(Image.open(min((scans / "data").glob("*/*.png"))).convert("L"))


ENGINE = """async (files) => {
  const { Engine } = await import("/static/engine.js");
  globalThis.engine ??= new Engine();
  const rows = await engine.answer(
    files.map(({ name, bytes }) => new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name)), () => {});
  return rows.map(({ answer, maps }) => ({
    ...answer, maps: maps && Object.fromEntries(Object.entries(maps.of).map(([k, v]) => [k, [...v]])) }));
}"""


def ask(tab: Any, files: dict[str, bytes]) -> list[dict[str, Any]]:
    """The browser's answers, by the engine that the page uses."""
    given = [{"name": name, "bytes": base64.b64encode(data).decode()} for name, data in files.items()]
    return list(tab.evaluate(ENGINE, given))


def same(theirs: dict[str, Any], ours: Prediction, tolerance: float = 1e-3) -> None:
    assert theirs["status"] == ours.status and theirs["label"] == ours.label
    assert theirs["prediction_set"] == ours.prediction_set
    assert ours.probabilities is not None and ours.cams is not None
    for name, value in ours.probabilities.items():
        assert theirs["probabilities"][name] == pytest.approx(value, abs=tolerance)
    if tolerance <= 1e-3:
        assert theirs["reason"] == ours.reason
        scale = max(1.0, float(np.abs(ours.cams).max()))
        maps = np.array([theirs["maps"][name] for name in ours.probabilities])
        assert np.abs(maps - ours.cams.reshape(len(maps), -1)).max() / scale < 1e-3


def written(picture: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


def kinds_of_png(grey: np.ndarray) -> dict[str, bytes]:
    """One slice as PNG in every mode that Pillow writes."""
    plain = Image.fromarray(grey)
    wide = Image.fromarray(grey.astype(np.uint16) * 201 + 1033)
    fading = Image.fromarray(np.broadcast_to(np.linspace(0, 255, grey.shape[1]).astype(np.uint8), grey.shape).copy())
    see_through = plain.convert("RGB")
    see_through.putalpha(fading)
    grey_alpha = plain.copy()
    grey_alpha.putalpha(fading)
    exif = Image.Exif()
    exif[274] = 6
    palette = plain.convert("P")
    return {
        "grey.png": written(plain),
        "rgb.png": written(plain.convert("RGB")),
        "palette.png": written(palette),
        "palette-clear.png": written(palette, transparency=40),
        "grey-clear.png": written(plain, transparency=40),
        "rgba.png": written(see_through),
        "grey-alpha.png": written(grey_alpha),
        "wide.png": written(wide),
        "one-bit.png": written(plain.point(lambda v: 255 * (v > 60)).convert("1")),
        "four-bit.png": written(plain.quantize(16), bits=4),
        "turned.png": written(plain, exif=exif),
        "odd.png": written(plain.crop((3, 5, 100, 128))),
        "packed.png": written(plain, optimize=True),
    }


def test_every_kind_of_png_is_answered_as_python_does(tab: Any, run: Path, grey: np.ndarray) -> None:
    files = kinds_of_png(grey)
    ours = Predictor(run).predict(list(files.values()))
    for (name, _), theirs, mine in zip(files.items(), ask(tab, files), ours, strict=True):
        assert theirs["path"] == name
        same(theirs, mine)


def test_an_interlaced_png_is_put_together(tab: Any, run: Path, grey: np.ndarray) -> None:
    data = interlaced(grey)
    (theirs,) = ask(tab, {"interlaced.png": data})
    (ours,) = Predictor(run).predict([data])
    same(theirs, ours)


def interlaced(grey: np.ndarray) -> bytes:
    """Adam7, which Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    lines = b"".join(
        b"\0" + row.tobytes() for left, top, across, down in passes for row in grey[top::down, left::across]
    )
    head = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 1)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_jpeg_gives_the_same_label(tab: Any, run: Path, scans: Path) -> None:
    pictures = [Image.open(path).convert("L") for path in sorted((scans / "data").glob("*/*.png"))[:8]]
    files = {f"{k}.jpg": written(picture, "JPEG", quality=90) for k, picture in enumerate(pictures)}
    exif = Image.Exif()
    exif[274] = 8
    files["turned.jpg"] = written(pictures[0], "JPEG", quality=95, exif=exif)
    for theirs, mine in zip(ask(tab, files), Predictor(run).predict(list(files.values())), strict=True):
        assert theirs["label"] == mine.label
        assert mine.probabilities is not None
        for name, value in mine.probabilities.items():
            assert theirs["probabilities"][name] == pytest.approx(value, abs=0.02)


def test_many_slices_have_one_status_here_and_there(tab: Any, run: Path, scans: Path) -> None:
    paths = sorted((scans / "data").glob("*/*.png"))[:24]
    files = {path.name: path.read_bytes() for path in paths}
    for theirs, mine in zip(ask(tab, files), Predictor(run).predict(list(files.values())), strict=True):
        same(theirs, mine)


def test_refusals_and_unreadable_files(tab: Any, run: Path, grey: np.ndarray) -> None:
    random = np.random.default_rng(0)
    whole = written(Image.fromarray(grey))
    files = {
        "coloured.png": written(Image.fromarray(random.integers(0, 255, (64, 64, 3), dtype=np.uint8))),
        "blank.png": written(Image.new("L", (64, 64))),
        "small.png": written(Image.new("L", (8, 20))),
        "torn.png": whole[: len(whole) // 2],
        "torn.jpg": written(Image.fromarray(grey), "JPEG")[:40],
        "scan.dcm": b"\0" * 128 + b"DICM",
        "empty.png": b"",
    }
    found = dict(zip(files, ask(tab, files), strict=True))
    ours = dict(zip(files, Predictor(run).predict(list(files.values())), strict=True))
    for name in ("coloured.png", "blank.png"):
        same(found[name], ours[name])
    assert found["coloured.png"]["status"] == "rejected"
    for name in ("small.png", "torn.png", "torn.jpg", "scan.dcm", "empty.png"):
        assert found[name]["status"] == "error" == (ours[name].status if name != "scan.dcm" else "error")
        assert found[name]["reason"].startswith(f"{name}: ")
    assert "got 8 x 20;" in found["small.png"]["reason"] and "got 8 x 20;" in (ours["small.png"].reason or "")
    assert "braincam serve" in found["scan.dcm"]["reason"]


def test_a_person_picks_a_file_and_sees_the_answer(tab: Any, address: str, scans: Path, run: Path) -> None:
    tab.goto(address)
    assert "never leave this machine" in tab.inner_text("#takes")
    scan = min((scans / "data").glob("*/*.png"))
    tab.set_input_files("#files", [str(scan)])
    tab.wait_for_selector("#work:not([hidden])")
    tab.wait_for_selector("#busy", state="hidden")
    (mine,) = Predictor(run).predict(scan)
    assert mine.probabilities is not None
    assert tab.locator("#bars li").count() == len(mine.probabilities)
    with_map = tab.locator("#view").screenshot()
    tab.fill("#opacity", "0")
    without = tab.locator("#view").screenshot()
    assert with_map != without or "no evidence" in tab.inner_text("#top")
    pixels = np.asarray(Image.open(io.BytesIO(without)).convert("L"))
    assert pixels.max() > 100 and pixels.std() > 10  # a slice, not a black or a blank canvas
    tab.click("#card-button")
    tab.wait_for_selector("#card[open]")
    assert Predictor(run).card.name in tab.inner_text("#card-text")
    tab.keyboard.press("Escape")


def test_a_model_card_that_could_not_be_loaded_is_asked_for_again(tab: Any, address: str) -> None:
    tab.goto(address)
    tab.route("**/model.json", lambda route: route.fulfill(body="{"))
    tab.click("#card-button")
    expect(tab.locator("#trouble")).to_contain_text("model.json cannot be loaded")
    tab.unroute("**/model.json")
    tab.click("#card-button")
    tab.wait_for_selector("#card[open]")
    tab.keyboard.press("Escape")


def test_the_folder_says_which_model_it_holds(site: Path, run: Path) -> None:
    facts = json.loads((site / "static" / "model.json").read_text(encoding="utf-8"))
    model = Predictor(run)
    assert facts["sha256"] == model.file.sha256 and facts["name"] == model.card.name
    assert "server.js" not in {item.name for item in (site / "static").iterdir()}
    html = (site / "index.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in html and "unsafe-inline" not in html
    assert "http://" not in html and "https://" not in html
