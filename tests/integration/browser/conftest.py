"""A real Chromium, driven by Playwright. Skipped, with the reason, where either is absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.playground.models import tiny_model

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


def _watch(context: Any, complaints: list[str], is_own: Callable[[str], bool]) -> None:
    """Notes what its pages log, what they show as a dialog, and what they ask of an address that is not their own."""
    context.on("console", lambda message: complaints.append(f"console: {message.text}"))
    context.on("weberror", lambda error: complaints.append(f"error: {error.error}"))
    context.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    context.on("request", lambda request: is_own(request.url) or complaints.append(f"asks {request.url}"))


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
        _watch(context, complaints, path.as_uri().__eq__)
        page = context.new_page()
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def local_model() -> Any:
    """For the playground: it decodes, and is loaded once."""
    return tiny_model()


@pytest.fixture
def visited(chromium) -> Iterator[Callable[..., Any]]:
    """Serves a playground and opens it. Whatever its page complains about, asks of others or shows fails the test.

    A page that is left while an answer comes complains of that: Gradio closes its own connection then, and reports
    it as broken. To open a playground again, open a second page in the first one's context.
    """
    pytest.importorskip("gradio", reason="Gradio is not installed (extra 'playground')")
    from tests.integration.browser.playground_actions import PATIENCE

    from autodeco.playground.gradio_server import build, start
    from autodeco.playground.serve import private_folder

    complaints: list[str] = []
    pages, contexts = [], []

    def visit(model: Any, report: Any = None, *, width: int = 1280, height: int = 900, **options: Any) -> Any:
        pages.append(build(model, report, folder.enter_context(private_folder())))
        _, url, _ = start(pages[-1], "127.0.0.1", None)
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        _watch(context, complaints, lambda asked: asked.startswith((url, "data:", "blob:", "about:")))
        page = context.new_page()
        page.goto(url)
        return page

    with ExitStack() as folder:
        yield visit
        for context in contexts:
            context.close()
        for page in pages:
            page.close(verbose=False)
    assert complaints == []
