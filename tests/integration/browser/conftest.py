"""A real Chromium, driven by Playwright. Skipped, with the reason, where either is absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autodeco.trace.page import write_page

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra 'dev')")
    path = os.environ.get("AUTODECO_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("there is no Chromium (Debian: apt-get install chromium; AUTODECO_TEST_CHROMIUM names another)")
    # Chromium's own sandbox needs namespaces that containers do not give; the pages are this project's.
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens traces as a page. Whatever the browser complains about, asks for or shows as a dialog fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(traces: list[Any], *, width: int = 1280, height: int = 900, **options: Any) -> Any:
        path = tmp_path / "page.html"
        write_page(path, traces)
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url != path.as_uri() and complaints.append(f"asks {request.url}"))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
