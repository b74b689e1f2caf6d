"""The page in a real browser: files in, answers, maps and refusals out, with mouse, wheel and keys."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from braincam.predict import Predictor
from braincam.study import summarise
from browsing import expect, launched
from dicom_files import write_series
from serving import TOKEN, serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with serving(Predictor(run, threads=1)) as served:
        yield str(served.http.base_url)


class Visit:
    """One tab, and everything that went wrong or elsewhere in it."""

    def __init__(self, browser: Any, address: str, **how: Any):
        self.context = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True, **how)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(15_000)
        self.wrong: list[str] = []
        self.asked: set[str] = set()
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("console", lambda line: self.wrong.append(line.text) if "Policy" in line.text else None)
        self.tab.on("request", lambda request: self.asked.add(request.url))
        self.tab.goto(address)

    def give(self, *files: Path) -> None:
        self.tab.set_input_files("#files", list(map(str, files)))
        self.tab.wait_for_selector("#work:not([hidden])")
        self.tab.wait_for_selector("#busy", state="hidden")

    def text(self, where: str) -> str:
        return str(self.tab.inner_text(where))

    def picture(self) -> bytes:
        return bytes(self.tab.locator("#view").screenshot())


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    made = Visit(browser, address)
    yield made
    assert made.wrong == []
    assert all(url.startswith((address, "blob:", "data:")) for url in made.asked)
    made.context.close()


def some(scans: Path, number: int) -> list[Path]:
    return sorted((scans / "data").glob("*/*.png"))[:number]


def test_an_answer_shows_label_bars_set_and_map(visit: Visit, run: Path, scans: Path):
    (scan,) = some(scans, 1)
    visit.give(scan)
    (mine,) = Predictor(run).predict(scan)
    assert mine.probabilities is not None
    shares = visit.tab.locator("#bars .fill").evaluate_all("all => all.map(one => parseFloat(one.style.width))")
    assert shares == pytest.approx([100 * value for value in mine.probabilities.values()], abs=0.01)
    members = visit.tab.locator("#bars li.member").count()
    assert members == len(mine.prediction_set or [])
    said = visit.text("#reason")
    assert said == mine.reason if mine.reason else "95 % prediction set holds this class alone" in said
    assert "logit per pixel" in visit.text("#top") or "no evidence" in visit.text("#top")
    with_map = visit.picture()
    visit.tab.fill("#opacity", "0")
    without = visit.picture()
    assert with_map != without
    visit.tab.fill("#opacity", "80")
    visit.tab.select_option("#class", "notumor")
    assert visit.tab.input_value("#class") == "notumor"
    assert visit.picture() != without or "no evidence" in visit.text("#top")


def test_slices_are_scrolled_with_wheel_keys_slider_and_thumbnails(visit: Visit, scans: Path):
    files = some(scans, 12)
    visit.give(*files)
    assert visit.text("#count") == "1 of 12"
    visit.tab.keyboard.press("ArrowRight")
    visit.tab.keyboard.press("PageDown")
    assert visit.text("#count") == "12 of 12"
    visit.tab.keyboard.press("Home")
    visit.tab.hover("#view")
    visit.tab.mouse.wheel(0, 100)
    expect(visit.tab.locator("#count")).to_have_text("2 of 12")
    visit.tab.fill("#slice", "6")
    assert files[6].name in visit.text("#caption")
    visit.tab.locator("#strip button").nth(3).click()
    assert visit.text("#count") == "4 of 12"
    assert visit.tab.locator("#strip [aria-current=true]").count() == 1
    before = visit.tab.input_value("#opacity")
    visit.tab.keyboard.press("-")
    assert int(visit.tab.input_value("#opacity")) == int(before) - 10


def test_slices_are_in_the_order_of_their_numbers(visit: Visit, scans: Path, tmp_path: Path):
    for name, scan in zip(("10.png", "2.png", "1.png"), some(scans, 3), strict=True):
        (tmp_path / name).write_bytes(scan.read_bytes())
    visit.give(tmp_path / "10.png", tmp_path / "2.png", tmp_path / "1.png")
    shown = []
    for _ in range(3):
        shown.append(visit.text("#caption"))
        visit.tab.keyboard.press("ArrowRight")
    assert shown == ["1.png", "2.png", "10.png"]


def test_a_volume_is_summed_up_above_its_slices(visit: Visit, run: Path, scans: Path, tmp_path: Path):
    planes = np.stack([np.asarray(Image.open(file).convert("L")) for file in some(scans, 9)]).astype(np.uint16)
    series = write_series(tmp_path / "series", planes)
    visit.give(*series)
    predictor = Predictor(run, threads=1)
    expected = summarise("", predictor.predict(tmp_path / "series"), predictor.card)
    assert visit.text("#statement") == expected.statement
    assert "no confidence interval" in visit.text("#study-caution")
    shown = []
    visit.tab.keyboard.press("Home")
    for _ in series:
        shown.append(visit.text("#caption"))
        visit.tab.keyboard.press("ArrowRight")
    assert shown == [f"{path.name}, slice {number}" for number, path in enumerate(series)], "in order of position"
    with visit.tab.expect_download() as download:
        visit.tab.click("#report")
    assert expected.statement in download.value.path().read_text()
    visit.give(some(scans, 1)[0])
    assert not visit.tab.locator("#study").is_visible()


def test_of_two_series_the_first_is_shown_and_the_other_is_named(visit: Visit, scans: Path, tmp_path: Path):
    planes = np.stack([np.asarray(Image.open(file).convert("L")) for file in some(scans, 8)]).astype(np.uint16)
    first, second = write_series(tmp_path / "a", planes[:4]), write_series(tmp_path / "b", planes[4:])
    assert [path.name for path in first] == [path.name for path in second], "as on a disc"
    visit.give(*first, *second)
    assert visit.text("#count") == "3 of 8"
    ends = f"{first[0].name} to {first[-1].name}"
    assert visit.text("#study-title") == f"Volume 1 of 2: {ends}"
    other = visit.tab.locator("#others button")
    assert other.inner_text() == f"{ends} (2)"
    other.click()
    assert visit.text("#count") == "7 of 8" and visit.text("#study-title") == f"Volume 2 of 2: {ends} (2)"
    with visit.tab.expect_download() as download:
        visit.tab.click("#report")
    report = download.value.path().read_text()
    assert report.count(f"{ends} (2)") == 1 + 4 and report.count(f"{ends}:") == 4


def test_what_is_no_scan_is_refused_in_words(visit: Visit, tmp_path: Path):
    (tmp_path / "notes.png").write_text("hello")
    colours = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "photo.png")
    visit.give(tmp_path / "notes.png", tmp_path / "photo.png")
    assert visit.text("#status") == "could not be read"
    assert "expected" in visit.text("#reason")
    visit.tab.keyboard.press("ArrowRight")
    assert visit.text("#status") == "refused"
    assert "coloured" in visit.text("#reason")
    assert visit.tab.locator("#bars li").count() == 0  # what the model said of it means nothing
    assert visit.text("#set") == ""
    assert not visit.tab.is_visible("#map")
    with visit.tab.expect_download() as waiting:
        visit.tab.click("#report")
    assert "%<" not in Path(waiting.value.path()).read_text(encoding="utf-8").partition("<table>")[2]


def test_samples_card_report_and_theme(visit: Visit, tmp_path: Path):
    visit.tab.click("[data-sample=meningioma]")
    visit.tab.wait_for_selector("#work:not([hidden])")
    with visit.tab.expect_download() as waiting:
        visit.tab.click("#report")
    waiting.value.save_as(tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Research use only" in report
    assert "does not mean that the lesion was seen" in " ".join(report.split()), "it is read without the page"
    assert "95 % prediction set" in report
    assert "drawn-meningioma.png" in report
    assert "data:image/png" in report
    assert "<script" not in report
    visit.tab.click("#card-button")
    visit.tab.wait_for_selector("#card[open]")
    assert "SHA-256" in visit.text("#card-text")
    visit.tab.keyboard.press("Escape")
    shown = visit.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    visit.tab.click("#theme")
    assert visit.tab.evaluate("getComputedStyle(document.body).backgroundColor") != shown


def test_a_file_can_be_dropped(visit: Visit, scans: Path):
    (scan,) = some(scans, 1)
    content = list(scan.read_bytes())
    visit.tab.evaluate(
        """content => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(content)], "dropped.png"));
            document.dispatchEvent(new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
        }""",
        content,
    )
    visit.tab.wait_for_selector("#work:not([hidden])")
    assert visit.text("#caption") == "dropped.png"


def test_it_fits_a_phone_and_is_named_for_screen_readers(browser: Any, address: str, scans: Path):
    visit = Visit(browser, address, is_mobile=True, device_scale_factor=2)
    visit.tab.set_viewport_size({"width": 360, "height": 740})
    assert not visit.tab.is_visible("#skip")  # there is no answer to skip to
    visit.give(*some(scans, 3))
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= 360
    nameless = visit.tab.evaluate(
        """() => [...document.querySelectorAll("button, input:not([hidden]), select")]
            .filter(one => !(one.textContent.trim() || one.ariaLabel || one.labels?.length))
            .map(one => one.outerHTML)"""
    )
    assert nameless == []
    assert visit.tab.get_attribute("#answer", "aria-live") == "polite"
    assert visit.tab.get_attribute("#slice", "aria-valuetext") == "1 of 3"
    signs = visit.tab.locator("#strip i").all_inner_texts()
    assert len(signs) == 3 and set(signs) <= set("✓?×!")  # the status is told by more than a colour
    assert all(one.get_attribute("title") for one in visit.tab.locator("#strip button").all())
    assert visit.wrong == []
    visit.context.close()


def test_a_score_on_a_split_that_leaks_is_not_called_one_on_new_patients(visit: Visit):
    def leaky(route: Any) -> None:
        facts = route.fetch().json()
        facts["card"]["scores"] |= {"headline": "all"}
        facts["card"]["training"]["split"] |= {"leaks": True, "verdict": "7 of 9 test slices share a patient"}
        route.fulfill(json=facts)

    visit.tab.route("**/v1/model", leaky)
    visit.tab.click("#card-button")
    visit.tab.wait_for_selector("#card[open]")
    assert "Accuracy on a split that leaks" in visit.text("#card-text")
    assert "7 of 9 test slices share a patient" in visit.text("#card-text")
    assert "has not met" not in visit.text("#card-text")


def test_a_model_without_a_score_says_so(visit: Visit):
    def unmeasured(route: Any) -> None:
        facts = route.fetch().json()
        facts["card"]["scores"] = {"accuracy": None, "ci95": {"accuracy": None}}
        route.fulfill(json=facts)

    visit.tab.route("**/v1/model", unmeasured)
    visit.tab.click("#card-button")
    visit.tab.wait_for_selector("#card[open]")
    assert "not measured" in visit.text("#card-text")


def test_the_strip_follows_the_slice_and_the_page_stays(visit: Visit, scans: Path):
    visit.tab.set_viewport_size({"width": 700, "height": 500})  # picture, answer and strip one below the other
    visit.give(*some(scans, 12))
    assert visit.tab.evaluate("scrollY") == 0
    visit.tab.fill("#slice", "11")
    expect(visit.tab.locator("#count")).to_have_text("12 of 12")
    assert visit.tab.evaluate("scrollY") == 0
    last, strip = (visit.tab.locator(where).bounding_box() for where in ("#strip button >> nth=-1", "#strip"))
    assert last["x"] + last["width"] <= strip["x"] + strip["width"] + 1


def test_an_older_answer_does_not_take_the_place_of_a_newer_one(visit: Visit, scans: Path):
    old, new = some(scans, 2)
    held: list[Any] = []

    def hold_the_first(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    visit.tab.route("**/v1/predict*", hold_the_first)
    visit.tab.set_input_files("#files", str(old))
    expect(visit.tab.locator("#busy")).to_be_visible()
    visit.give(new)
    assert new.name in visit.text("#caption")
    with contextlib.suppress(Exception):  # the page has given it up
        held[0].continue_()
    visit.tab.wait_for_timeout(500)
    assert new.name in visit.text("#caption")
    assert not visit.tab.is_visible("#trouble")


def test_an_answer_that_breaks_off_and_a_drawing_that_is_gone_are_told(visit: Visit, scans: Path):
    visit.tab.route("**/v1/predict*", lambda route: route.fulfill(body='{"predictions": [{'))
    visit.tab.set_input_files("#files", str(some(scans, 1)[0]))
    expect(visit.tab.locator("#trouble")).to_have_text("The answer broke off on its way. Try again.")
    visit.tab.route("**/samples/*", lambda route: route.abort())
    visit.tab.click("[data-sample=glioma]")
    expect(visit.tab.locator("#trouble")).to_contain_text("The drawing cannot be loaded")
    visit.tab.route("**/v1/predict*", lambda route: route.fulfill(json={}))
    visit.tab.set_input_files("#files", str(some(scans, 1)[0]))  # not what a server of this kind answers
    expect(visit.tab.locator("#trouble")).to_contain_text("The page failed")


def test_a_folder_can_be_dropped(visit: Visit, scans: Path, tmp_path: Path):
    (tmp_path / "study" / "more").mkdir(parents=True)
    for name in ("b.png", "more/c.png", "a.png", ".hidden", "viewer.exe", "DICOMDIR", "more/notes.txt"):
        (tmp_path / "study" / name).write_bytes(some(scans, 1)[0].read_bytes())
    tools = visit.context.new_cdp_session(visit.tab)
    for kind in ("dragEnter", "dragOver", "drop"):
        carried = {"items": [], "files": [str(tmp_path / "study")], "dragOperationsMask": 1}
        tools.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": carried})
    visit.tab.wait_for_selector("#work:not([hidden])")
    assert visit.text("#count") == "1 of 3"
    assert visit.text("#caption") == "a.png"


def test_keys_and_wheel_are_the_pages_own_where_they_change_no_slice(visit: Visit, scans: Path):
    visit.tab.set_viewport_size({"width": 700, "height": 400})
    visit.give(*some(scans, 1))
    opacity = visit.tab.input_value("#opacity")
    visit.tab.keyboard.press("-")  # the picture has not the focus
    assert visit.tab.input_value("#opacity") == opacity
    visit.tab.focus("#view")
    visit.tab.keyboard.press("End")
    visit.tab.wait_for_timeout(300)
    assert visit.tab.evaluate("scrollY") > 0
    visit.tab.evaluate("scrollTo(0, 0)")
    visit.give(*some(scans, 12))
    kept = """(turn) => !document.getElementById("view").dispatchEvent(
        new WheelEvent("wheel", {cancelable: true, ...turn}))"""
    assert not visit.tab.evaluate(kept, {"deltaY": 120, "ctrlKey": True})  # zooms the page
    assert visit.text("#count") == "1 of 12"
    for _ in range(10):  # a touchpad: a hundred pixels in small turns
        assert visit.tab.evaluate(kept, {"deltaY": 10})
    assert visit.text("#count") == "3 of 12"
    assert visit.tab.evaluate(kept, {"deltaY": 3, "deltaMode": 1})  # a notch, in lines
    assert visit.text("#count") == "4 of 12"


def test_troubles_are_told_in_words(browser: Any, run: Path, scans: Path):
    (scan,) = some(scans, 1)
    with serving(Predictor(run, threads=1), bytes=1000) as served:
        visit = Visit(browser, str(served.http.base_url))
        visit.tab.set_input_files("#files", str(scan))
        visit.tab.wait_for_selector("#trouble:not([hidden])")
        assert visit.text("#trouble").startswith("That is too much")
        visit.context.close()


def test_a_token_is_asked_for_and_then_used(browser: Any, run: Path, scans: Path):
    with serving(Predictor(run, threads=1), token=TOKEN) as served:
        visit = Visit(browser, str(served.http.base_url))

        def answer() -> None:
            visit.tab.set_input_files("#files", str(some(scans, 1)[0]))
            visit.tab.wait_for_selector("#ask[open]")

        answer()
        assert not visit.tab.is_visible("#wrong")
        visit.tab.fill("#token", TOKEN[::-1])
        visit.tab.keyboard.press("Enter")
        expect(visit.tab.locator("#wrong")).to_be_visible()
        visit.tab.fill("#token", TOKEN)
        visit.tab.keyboard.press("Enter")
        visit.tab.wait_for_selector("#work:not([hidden])")
        assert visit.tab.evaluate("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0
        visit.context.close()


def test_a_busy_server_is_asked_again(browser: Any, address: str, scans: Path):
    visit = Visit(browser, address)
    refused = threading.Event()

    def busy_once(route: Any) -> None:
        if refused.is_set():
            route.continue_()
        else:
            refused.set()
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "busy"})

    visit.tab.route("**/v1/predict*", busy_once)
    started = time.monotonic()
    visit.give(*some(scans, 1))
    assert refused.is_set()
    assert time.monotonic() - started >= 1
    visit.context.close()
