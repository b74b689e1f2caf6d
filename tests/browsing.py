"""A real browser for tests of the pages; tests are skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def expect(locator: Any) -> Any:
    """What is waited for; `wait_for_function` needs `eval`, which the pages forbid."""
    from playwright.sync_api import expect as found

    return found(locator)


@contextmanager
def launched() -> Iterator[Any]:
    """Chromium without a window, closed at the end."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if BROWSER is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()
