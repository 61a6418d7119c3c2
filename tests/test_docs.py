"""The documentation site: built with warnings as errors, loads nothing from elsewhere, and no link leads nowhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from autodeco.cli.app import app

ROOT = Path(__file__).parents[1]
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src"}


class Page(HTMLParser):
    """Links, loaded files and anchors of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.update(filter(None, (values.get("id"), values.get("name"))))
        if target := values.get(LOADED.get(tag, "")):
            self.loaded.append(target)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_page_of_the_documentation_is_there(site):
    sources = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert {(site / path).with_suffix(".html").exists() for path in sources} == {True}


def test_links_lead_somewhere(pages):
    lost = []
    for path, page in pages.items():
        for target in (*page.links, *page.loaded):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            if not there.exists() or (parts.fragment and there in pages and parts.fragment not in pages[there].anchors):
                lost.append((path.name, target))
    assert [one for one in lost if one[1] not in ("#__skip",)] == []


def test_nothing_is_loaded_from_elsewhere(pages):
    assert {target for page in pages.values() for target in page.loaded if urlsplit(target).scheme} == set()


def test_every_command_has_its_help_with_examples(site):
    text = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f'id="autodeco-{command.name}"' in text
    assert text.count("<strong>Examples</strong>") >= len(app.registered_commands)
    assert "&amp;#x27;" not in text


def test_docstrings_are_shown_without_roles(site):
    text = (site / "reference" / "trace.html").read_text(encoding="utf-8")
    assert "autodeco.trace.format.read_trace" in text
    assert ":func:" not in text
    assert ":class:" not in text


def test_formulas_are_mathml_before_any_script_runs(site):
    text = (site / "method.html").read_text(encoding="utf-8")
    assert text.count("<math") > 20
    assert 'class="arithmatex"' not in text
    assert "<mfrac>" in text
    assert "\\" not in text.split("<article")[1].split("</article")[0]  # nothing of the formulas' LaTeX is left
