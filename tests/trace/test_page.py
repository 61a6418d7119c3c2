"""The page as a file: nothing of a model's text becomes markup, script or a line's end, and nothing is loaded."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from autodeco.errors import DataError
from autodeco.trace.page import render_page, write_page
from autodeco.trace.page.charts import chart
from autodeco.trace.page.colours import _AMOUNT, _TEMPERATURE, STEPS, _between, scale_classes, step
from tests.trace.traces import long_trace, token, trace

NASTY = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    '" onmouseover="alert(3)',
    "' autofocus onfocus='alert(4)",
    "<img src=x onerror=alert(5)>",
    "{{7*7}}${alert(6)}`",
    "javascript:alert(7)",
    "&lt;b&gt;&amp;",
    "</style><style>*{display:none}</style>",
    "\u2028\u2029\x00\x0b\x85\r",
    "\u202eexe.\u2066",
    "\ud800",
    "]]>",
]


class Page(HTMLParser):
    """What a parser sees: tags with attributes, and the text of chosen elements."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "title": [], "h1": []}
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open and self._open[-1] in self.texts:
            self.texts[self._open[-1]][-1] += data


def nasty_page() -> str:
    def other(text):
        return {"token_id": 1, "text": text, "base_probability": 0.1, "probability": 0}

    tokens = [token(text, alternatives=[other(text)]) for text in NASTY]
    whole = "".join(NASTY)
    named = {whole: whole}
    return render_page([trace(tokens, model=whole, prompt=whole, strategy=whole, settings=named, versions=named)])


def test_a_models_text_makes_no_markup():
    benign = Page(render_page([trace([token("a") for _ in NASTY], settings={"a": "b"}, versions={"a": "b"})]))
    nasty = Page(nasty_page())
    tags = [tag for tag, _ in nasty.tags if tag != "i"]  # <i> marks what cannot be seen
    assert tags == [tag for tag, _ in benign.tags if tag != "i"]
    assert {name for _, attributes in nasty.tags for name in attributes} <= {
        name for _, attributes in benign.tags for name in attributes
    }
    assert nasty.texts["script"][1:] == benign.texts["script"][1:]
    assert nasty.texts["style"] == benign.texts["style"]


def test_nothing_unseen_is_in_the_page():
    assert not {"\u2028", "\u2029", "\u202e", "\u2066", "\x00", "\x85", "\r", "\x0b", "\ud800"} & set(nasty_page())


def test_the_data_is_json_that_no_html_parser_reads():
    data = Page(nasty_page()).texts["script"][0]
    assert not set("<>&") & set(data)
    assert data.isascii()
    rows = json.loads(data)[0]
    assert [row[0] for row in rows][:2] == NASTY[:2]
    assert [row[-1][0][0] for row in rows][:2] == NASTY[:2]
    assert rows[10][0] == "\\u2028\\u2029\\x00\\x0b\\x85\\r"


def test_the_policy_allows_the_pages_own_script_and_style_alone():
    page = Page(nasty_page())
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    def source(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == source(page.texts["script"][1])
    assert rules["style-src"] == source(page.texts["style"][0])
    assert not [a for _, a in page.tags if {"style", "src", "href"} & a.keys() or any(n.startswith("on") for n in a)]


def test_the_packaged_script_uses_no_way_in_for_markup():
    script = Page(nasty_page()).texts["script"][1]
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|fetch", script)
    assert "</" not in script


def test_the_tinted_text_is_there_without_script():
    end = token("<end>", temperature=2.5, special=True)
    html = render_page([trace([token("Hello", temperature=0.0), token("\n"), end])])
    assert '<span class="t0">Hello</span><span class="t8"><i>↵</i>\n</span>' in html
    assert '<span class="t20 special">&lt;end&gt;</span></div>' in html


def test_parts_of_characters_and_tokens_without_text():
    tokens = [token("", partial_bytes="e2"), token("", partial_bytes=None), token("€", partial_bytes="ac")]
    html = render_page([trace(tokens)])
    assert '<i>‥</i></span><span class="t8"><i>∅</i></span><span class="t8">€</span>' in html


def test_runs_of_one_prompt_and_where_they_part():
    first = trace([token("a", token_id=1), token("b", token_id=2)])
    second = trace([token("a", token_id=1), token("c", token_id=3)], strategy="default")
    html = render_page([first, second, first, trace([token("a", token_id=1)])])
    assert html.count('<section class="run"') == 4
    assert html.count("differs from the first run from token 2 on") == 2
    assert html.count('fork">') == 1
    assert 'class="runs runs-4"' in html


def test_an_empty_trace():
    assert "no tokens" in render_page([trace([])])


def test_pages_that_cannot_be(tmp_path):
    with pytest.raises(DataError, match="one to 4 traces, found 5"):
        render_page([long_trace(1)] * 5)
    with pytest.raises(DataError, match="found 0"):
        render_page([])
    with pytest.raises(DataError, match="trace 2 is of another: it begins 'Other'"):
        write_page(tmp_path / "page.html", [long_trace(1), long_trace(1, prompt="Other")])
    assert not list(tmp_path.iterdir())


def test_a_page_holds_4000_tokens_in_a_few_megabytes(tmp_path):
    write_page(tmp_path / "page.html", [long_trace(4000)])
    assert (tmp_path / "page.html").stat().st_size < 3_000_000


def test_curves():
    drawn = chart([0.0, 1.0, 2.0, 5.0], width=8, name="Temperature", symbol="T", largest=2, kind="of-t", reference=1)
    assert 'viewBox="0 0 8 100"' in drawn
    assert 'd="M0 100.0V100.0H1V50.0H2V0.0H3V0.0H4"' in drawn
    assert 'aria-label="Temperature at each token: mean 2.00, from 0.00 to 5.00"' in drawn
    many = chart([1.0] * 600, width=600, name="n", symbol="T", largest=2, kind="of-t", reference=1)
    assert re.search(r'class="mean" d="M0\.5 50\.0L5\.5 50\.0L', many)


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("theme", "ink"), [("light", (0x1C, 0x1C, 0x1A)), ("dark", (0xEC, 0xEC, 0xEA))])
@pytest.mark.parametrize("scale", [_TEMPERATURE, _AMOUNT])
def test_text_is_readable_on_every_tint(scale, theme, ink):
    for number in range(STEPS + 1):
        light, dark = sorted((luminance(_between(scale[theme], number / STEPS)), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_steps_of_the_scale():
    assert [step(value, 2.0) for value in (-1, 0, 1, 1.04, 2, 9)] == [0, 0, 10, 10, 20, 20]
    assert scale_classes().count("\n") == 2 * (STEPS + 1) - 1
