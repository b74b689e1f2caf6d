"""What every page is made with: the templates of this folder, filled and written at once. No Matplotlib."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from braincam.files import write_text
from braincam.model_file.card import NOTICE
from braincam.model_file.decision import stated

CAUTION = "A map shows where the score comes from, not where a tumour is."


def write_page(out: Path, template: str, **context: Any) -> None:
    """Fill a template of this folder and put the whole page in place at once."""
    page = environment().get_template(template).render(notice=NOTICE, caution=CAUTION, **context)
    write_text(out, page)


def environment() -> Environment:
    """Templates of this folder: everything is escaped, and a name that is not given is an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "interval": interval,
        "ci95": ci95,
        "fact": fact,
        "words": words,
        "png": data_url,
        "stated": stated,
    }
    return made


def number(value: float | None, digits: int = 3) -> Markup:
    """A score as text, with the exact value in the page for whoever wants to check it: <data value="...">."""
    if value is None:
        return Markup('<span class="none" title="undefined here">–</span>')
    return Markup('<data value="{}">{}</data>').format(repr(float(value)), f"{value:.{digits}f}")


def interval(ci: Sequence[float] | None, digits: int = 3, name: str = "") -> str:
    """[low, high] as text that does not break across lines, after `name`."""
    if ci is None:
        return "no interval"
    return f"{name} {ci[0]:.{digits}f} to {ci[1]:.{digits}f}".strip().replace(" ", "\N{NO-BREAK SPACE}")


def ci95(ci: Sequence[float] | None) -> str:
    """95 % interval low to high."""
    return interval(ci, name="95 % interval")


def fact(value: Any) -> str:
    """A fact of a card or configuration in one line."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {fact(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(fact(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def words(key: Any) -> str:
    """A key as it is read: with_known_patient -> with known patient."""
    return str(key).replace("_", " ")


def jpeg(picture: Image.Image) -> bytes:
    """A picture for a page, a fifth the size of its PNG: a report holds sixteen of them."""
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=85)
    return file.getvalue()


def data_url(picture: bytes) -> str:
    """PNG or JPEG bytes as an address that carries the picture itself."""
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode("ascii")
