"""Make the pictures of docs/images again, all of drawn heads.

    python tools/pictures.py [--demo DIR] [--only NAME...]    from a demo that is made on the spot, or was before
    python tools/pictures.py --curves RUN...                  curves/<name of RUN>.png, from trainings on the real data

Needs the extra `dev`, and Chromium for the pictures of pages. Answers come from the demo's model, which knows drawn
heads; in `maps.png` the packaged model stands beside it, which does not.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont, ImageOps

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("tests", "benchmarks", "tools")]

from house import picture  # noqa: E402

from braincam import Prediction, Predictor  # noqa: E402
from braincam.dataset.phantom import CLASSES  # noqa: E402
from braincam.dataset.phantom_volume import write_volumes  # noqa: E402
from braincam.explain.localisation import compare, read_mask  # noqa: E402
from braincam.explain.overlay import paint, resize_map  # noqa: E402
from braincam.explain.save import with_overlays  # noqa: E402
from braincam.files import write_bytes, write_text  # noqa: E402
from braincam.model_file.decision import stated  # noqa: E402
from braincam.pipeline.audit import audit as run_audit  # noqa: E402
from braincam.pipeline.demo import run_demo  # noqa: E402
from braincam.pipeline.study import with_studies  # noqa: E402
from browsing import BROWSER, launched  # noqa: E402
from robustness import contact_sheet  # noqa: E402
from serving import serving  # noqa: E402

IMAGES = ROOT / "docs" / "images"
WIDTH = 1120  # of a page, in pixels
DARK, INK, SOFT = "#101418", "#e6edf3", "#9aa4b0"


@dataclass
class Studio:
    """What pictures are taken of: a demo, and answers of its model to slices that it has not met."""

    demo: Path

    @cached_property
    def model(self) -> Predictor:
        """The demo's model."""
        return Predictor(self.demo / "run", threads=1)

    @cached_property
    def slices(self) -> dict[str, Path]:
        """One slice for each class: held out, of high confidence, and for tumours with the hottest pixel in the lesion.

        So they show what a map looks like when all is well, not how often it is.
        """
        table = pd.read_csv(self.demo / "run" / "predictions.csv")
        return {label: self._good(rows["path"].tolist(), label) for label, rows in table.groupby("label")}

    def _good(self, paths: list[str], label: str) -> Path:
        scans = self.demo / "scans"
        answers = dict(zip(paths, self.model.predict([scans / "data" / path for path in paths]), strict=True))
        right = {path: found for path, found in answers.items() if found.status == "ok" and found.label == label}
        for path, found in sorted(right.items(), key=lambda item: -(item[1].confidence or 0)):
            mask = read_mask(scans / "masks", path)
            if mask is None or (found.cam is not None and compare(found.cam, mask).hit):
                return scans / "data" / path
        raise SystemExit(f"pictures: the demo's model names no {label} rightly; make another demo")


class NotGoodError(Exception):
    """A picture would show something else than its page says; the text says what."""


def main() -> int:
    """Read the command line, and make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, metavar="DIR", help="what `braincam demo --out DIR` left")
    parser.add_argument("--only", nargs="+", choices=list(PICTURES), default=list(PICTURES), metavar="NAME")
    parser.add_argument("--curves", type=Path, nargs="+", metavar="RUN")
    options = parser.parse_args()
    if options.curves:
        for run in options.curves:
            save(Image.open(run / "curves.png"), IMAGES / "curves" / f"{run.name}.png")
        return 0
    if BROWSER is None:
        raise SystemExit("pictures: needs chromium, and there is none on the path; apt-get install chromium")
    with tempfile.TemporaryDirectory() as work:
        demo = options.demo or Path(work) / "demo"
        if not options.demo:
            run_demo(demo)
        studio = Studio(demo)
        kept = 0
        for name in options.only:
            try:
                PICTURES[name](studio, IMAGES / name)
            except NotGoodError as reason:
                kept += 1
                print(f"{IMAGES.relative_to(ROOT) / name}: left as it was; {reason}", file=sys.stderr)
                continue
            print(f"{IMAGES.relative_to(ROOT) / name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB", flush=True)
        return int(kept > 0)


def save(image: Image.Image, out: Path, *, palette: bool = True) -> None:
    """Write a PNG; with a palette, a third of the size, where no colours of a map would fall into steps."""
    image = image.convert("RGB")
    buffer = io.BytesIO()
    (image.quantize(256, dither=Image.Dither.NONE) if palette else image).save(buffer, "PNG", optimize=True)
    write_bytes(out, buffer.getvalue())


# -- drawn -------------------------------------------------------------------------------------------------------------


def house(_: Studio, out: Path) -> None:
    """The layers of the code."""
    write_text(out, picture())


def curves(studio: Studio, out: Path) -> None:
    """The demo's training."""
    save(Image.open(studio.demo / "run" / "curves.png"), out)


def corruptions(_: Studio, out: Path) -> None:
    """Fifteen ways to spoil a slice."""
    contact_sheet(out)


def overlay(studio: Studio, out: Path) -> None:
    """A slice, and beside it the evidence."""
    with tempfile.TemporaryDirectory() as folder:
        (answer,) = with_overlays(studio.model.predict([studio.slices["glioma"]]), Path(folder))
        save(Image.open(str(answer.overlay)), out, palette=False)


def maps(studio: Studio, out: Path) -> None:
    """The same slices through the eyes of a model that knows drawn heads, and of the packaged one, which does not."""
    rows = {"knows drawn heads": studio.model, "has met real heads only": Predictor(threads=1)}
    side, gap, head, foot = 236, 14, 30, 44
    across = len(studio.slices)
    sheet = Image.new("RGB", (gap + across * (side + gap), len(rows) * (head + side + foot) + gap), DARK)
    draw = ImageDraw.Draw(sheet)
    for row, (said, model) in enumerate(rows.items()):
        top = row * (head + side + foot) + gap // 2
        draw.text((gap, top + 4), f"A model that {said}", fill=INK, font=ImageFont.load_default(16))
        answers = model.predict(list(studio.slices.values()))
        for column, (truth, answer) in enumerate(zip(studio.slices, answers, strict=True)):
            left = gap + column * (side + gap)
            sheet.paste(heat(answer, side), (left, top + head))
            draw.text((left, top + head + side + 4), f"drawn: {truth}", fill=SOFT, font=ImageFont.load_default(13))
            draw.text((left, top + head + side + 21), words(answer), fill=INK, font=ImageFont.load_default(13))
    save(sheet, out, palette=False)


def heat(answer: Prediction, side: int) -> Image.Image:
    """A square slice with its evidence on a scale of its own, as pictures of `predict --out` show it."""
    picture = Image.fromarray(np.asarray(answer.pixels)).convert("RGB").resize((side, side))
    if answer.status in {"ok", "refer"} and answer.cam is not None:
        paint(picture, resize_map(answer.cam / max(float(answer.cam.max()), 1e-6), (side, side)), (0, 0))
    return picture


def words(answer: Prediction) -> str:
    """An answer in a few words."""
    if answer.status == "rejected":
        return "rejected"
    return f"{answer.status}: {answer.label}, {stated(answer.confidence or 0, '.0%')}"


# -- taken of pages ----------------------------------------------------------------------------------------------------


def screenshot(
    address: str,
    out: Path,
    height: int,
    *,
    scheme: str = "light",
    prepare: Any = None,
    until: str | None = None,
    palette: bool = True,
) -> None:
    """The top of a page, as a browser shows it; `prepare` is called with the tab before.

    `until` selects what it ends after, in place of a height that would cut through something. A dark page has no
    palette in any case.
    """
    with launched() as browser:
        context = browser.new_context(
            viewport={"width": WIDTH, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        tab = context.new_page()
        tab.goto(address)
        if prepare:
            prepare(tab)
        tab.wait_for_timeout(300)
        tab.evaluate("scrollTo(0, 0)")
        if until:
            box = tab.locator(until).first.bounding_box()
            tab.set_viewport_size({"width": WIDTH, "height": round(box["y"] + box["height"]) + 24})
        save(Image.open(io.BytesIO(tab.screenshot())), out, palette=palette and scheme == "light")


def audit(studio: Studio, out: Path) -> None:
    """The page of an audit, of a folder with planted faults: mirrored test slices, one of them relabelled."""
    with tempfile.TemporaryDirectory() as work:
        data = Path(work) / "hospital"
        for label in CLASSES:
            for number, path in enumerate(sorted((studio.demo / "scans" / "data" / label).iterdir())[:40]):
                part = "Training" if number < 32 else "Testing"
                put(Image.open(path), data / part / label / path.name)
                if number in {1, 6, 11}:
                    put(ImageOps.mirror(Image.open(path)), data / "Testing" / label / f"copy-{path.name}")
        strange = next((data / "Training" / "glioma").iterdir())
        put(Image.open(strange), data / "Testing" / "pituitary" / strange.name)
        run_audit(data, out=Path(work) / "audit")
        screenshot((Path(work) / "audit" / "audit.html").as_uri(), out, 1100, until="article:nth-of-type(2)")


def put(image: Image.Image, path: Path) -> None:
    """Write a picture into a folder that may not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def report(studio: Studio, out: Path) -> None:
    """The page of the demo's run."""
    screenshot((studio.demo / "run" / "report.html").resolve().as_uri(), out, 1180)


def page(studio: Studio, out: Path) -> None:
    """The page of `braincam serve`, with an answer."""
    slices = [str(path) for path in studio.slices.values()]

    def give(tab: Any) -> None:
        tab.set_input_files("#files", slices)
        tab.wait_for_selector("#work:not([hidden])")
        tab.wait_for_selector("#busy", state="hidden")
        tab.evaluate("document.activeElement.blur()")

    with serving(studio.model) as served:
        screenshot(str(served.http.base_url), out, 940, scheme="dark", prepare=give)


def study(studio: Studio, out: Path) -> None:
    """The page of a volume."""
    with tempfile.TemporaryDirectory() as folder:
        screenshot(
            (answered_volume(studio, Path(folder)) / "study.html").as_uri(), out, 1290, until=".tiles", palette=False
        )


def montage(studio: Studio, out: Path) -> None:
    """The top slices of a volume with their maps."""
    with tempfile.TemporaryDirectory() as folder:
        (drawn,) = answered_volume(studio, Path(folder)).glob("*-montage.png")
        save(Image.open(drawn), out, palette=False)


def answered_volume(studio: Studio, work: Path) -> Path:
    """The folder that `braincam predict VOLUME --out FOLDER` leaves, for a drawn volume that is named rightly."""
    said = ""
    for seed in range(3):
        write_volumes(work / f"phantom-{seed}", seed)
    for seed, name in product(range(3), ("glioma", "meningioma", "pituitary")):
        out, found = work / f"answers-{seed}-{name}", []
        with chdir(work):  # a page shows the path that it was given
            answers = with_overlays(studio.model.stream([f"phantom-{seed}/volumes/{name}.nii.gz"]), out)
            list(with_studies(answers, studio.model.card, out, found, maps=True))
        if found[0].label == name:
            return out
        said = found[0].statement
    raise NotGoodError(f"the demo's model says of each drawn volume something like: {said}")


PICTURES: dict[str, Callable[[Studio, Path], None]] = {
    "house.svg": house,
    "curves.png": curves,
    "overlay.png": overlay,
    "maps.png": maps,
    "page.png": page,
    "audit.png": audit,
    "report.png": report,
    "study.png": study,
    "study-montage.png": montage,
    "corruptions.png": corruptions,
}

if __name__ == "__main__":
    sys.exit(main())
