"""The page on a run, as ``autodeco report`` and the playground make it, in a real Chromium: axe, and no requests."""

from __future__ import annotations

import pytest

pytest.importorskip("altair", reason="Altair is not installed (extra 'report')")
from tests.evaluation.report.test_training import log_line, write_log
from tests.playground.test_run_folder import write_results

from autodeco.playground.run_folder import run_page


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_results(folder / "eval")
    write_log(folder / "heads", [log_line(number, 1 - number / 100, 0.5) for number in range(1, 20)])
    path = folder / "page.html"
    path.write_text(run_page(folder), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(chromium, path, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra 'dev')")
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(f"console: {message.text}"))
    page.on("request", lambda asked: asked.url.startswith(("http:", "https:")) and complaints.append(asked.url))
    page.goto(path.as_uri())
    found = axe.Axe().run(page)
    context.close()
    assert found.violations_count == 0, found.generate_report()
    assert complaints == []
