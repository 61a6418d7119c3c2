"""Builds the page: every text of a model escaped, and nothing can run but the page's own script, nothing be loaded.

The tinted text and the curves are plain HTML and SVG; ``page.js`` adds what moves. It finds the numbers as JSON in the
page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from autodeco.errors import DataError
from autodeco.files import atomic_write_text
from autodeco.trace.format import Alternative, Trace, TracedToken
from autodeco.trace.page.charts import chart
from autodeco.trace.page.colours import scale_classes, step
from autodeco.trace.text import escaped, is_harmless, shown, visible

MAX_RUNS = 4

LARGEST_TEMPERATURE = 2.0
_LEGEND = [number / 5 for number in range(11)]
_MARKS = {"\n": "<i>↵</i>\n", "\t": "<i>⇥</i>\t"}


def write_page(path: str | Path, traces: Sequence[Trace]) -> None:
    """Writes :func:`render_page`'s page.

    Raises:
        DataError: as :func:`render_page` does.
        RunFolderError: the disk is full, or the folder cannot be written.
    """
    atomic_write_text(path, render_page(traces))


def render_page(traces: Sequence[Trace]) -> str:
    """One trace, or up to four of the same prompt beside each other, as an HTML page.

    Args:
        traces: one to four.

    Raises:
        DataError: there are none or too many, or their prompts differ.
    """
    _check(traces)
    style = _asset("page.css") + scale_classes()
    script = _asset("page.js")
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; base-uri 'none'; "
        f"form-action 'none'; require-trusted-types-for 'script'"
    )
    title = f"Trace of {_models(traces)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{_top(title)}
<main>
{_prompt(traces[0].header.prompt)}
<div class="runs runs-{len(traces)}">
{"".join(_run(number, trace, traces) for number, trace in enumerate(traces, start=1))}
</div>
</main>
<footer><p>{_versions(traces[0])}</p></footer>
<script type="application/json" id="traces">{_data(traces)}</script>
<script>{script}</script>
</body>
</html>
"""


def _check(traces: Sequence[Trace]) -> None:
    if not 1 <= len(traces) <= MAX_RUNS:
        raise DataError(f"a page shows one to {MAX_RUNS} traces, found {len(traces)}.")
    first = traces[0].header.prompt
    for number, trace in enumerate(traces[1:], start=2):
        if trace.header.prompt != first:
            raise DataError(
                f"traces on one page are of one prompt, and trace {number} is of another: it begins "
                f"{trace.header.prompt[:60]!r}, the first {first[:60]!r}. Make a page for each."
            )


def _asset(name: str) -> str:
    return resources.files("autodeco.trace.page").joinpath(name).read_text(encoding="utf-8")


def _source(content: str) -> str:
    """What a content security policy calls an inline style or script with this content."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"


def _models(traces: Sequence[Trace]) -> str:
    return escape(visible(", ".join(dict.fromkeys(trace.header.model for trace in traces))))


def legend() -> str:
    """The scale of temperatures, as HTML."""
    steps = "".join(f'<span class="t{step(value, LARGEST_TEMPERATURE)}">{value:.1f}</span>' for value in _LEGEND)
    return f'<p class="legend"><span class="legend-name">Temperature</span> <span class="scale">{steps}</span></p>'


def _top(title: str) -> str:
    return f"""<header>
<h1>{title}</h1>
<div class="bar">
{legend()}
<form class="tools" role="search" autocomplete="off" hidden>
<label>Tint <select id="tint"><option value="temperature">temperature</option><option value="top_p">top-p</option>
<option value="entropy">entropy</option><option value="probability">probability</option></select></label>
<label>Theme <select id="theme"><option value="">system</option><option value="light">light</option>
<option value="dark">dark</option></select></label>
<span class="search"><label>Search <input type="search" id="search-text" autocomplete="off" spellcheck="false"
aria-keyshortcuts="/"></label><button type="button" id="search-previous" aria-label="Previous match">↑</button><button
type="submit" id="search-next" aria-label="Next match">↓</button><output id="search-result"
for="search-text"></output></span>
</form>
</div>
</header>"""


def _prompt(prompt: str) -> str:
    return f'<details class="prompt"><summary>Prompt</summary><div class="text">{text_html(prompt)}</div></details>'


def _run(number: int, trace: Trace, traces: Sequence[Trace]) -> str:
    tokens = trace.tokens
    longest = max(1, *(len(one.tokens) for one in traces))  # one axis for all, so that the cursors are in line
    fork = _fork(trace, traces[0]) if number > 1 else None
    spans = "".join(_span(token, at == fork) for at, token in enumerate(tokens))
    temperatures, top_ps = [token.temperature for token in tokens], [token.top_p for token in tokens]
    largest = max([LARGEST_TEMPERATURE, *temperatures])
    of_t = chart(temperatures, width=longest, name="Temperature", symbol="T", largest=largest, kind="of-t", reference=1)
    of_p = chart(top_ps, width=longest, name="Top-p", symbol="P", largest=1, kind="of-p", reference=0.5)
    return f"""<section class="run" aria-labelledby="run-{number}">
<h2 id="run-{number}">{escape(visible(trace.header.strategy))}</h2>
<p class="facts">{_facts(trace, fork)}</p>
<div class="panel">
<div class="charts">{of_t}{of_p}
<input class="position" type="range" min="1" max="{longest}" value="1" step="1" aria-label="Token" hidden></div>
<div class="token" hidden></div>
</div>
<div class="text tokens" dir="auto">{spans}</div>
</section>"""


def _fork(trace: Trace, first: Trace) -> int | None:
    """Index of the first token that is not the first trace's; ``None`` if the two have the same tokens."""
    for at, (one, other) in enumerate(zip(trace.tokens, first.tokens, strict=False)):
        if one.token_id != other.token_id:
            return at
    same = len(trace.tokens) == len(first.tokens)
    return None if same else min(len(trace.tokens), len(first.tokens))


def _facts(trace: Trace, fork: int | None) -> str:
    facts = [trace.summary]
    facts += [f"{name.replace('_', ' ')} {_setting(value)}" for name, value in trace.header.settings.items()]
    if fork is not None:
        facts.append(f"differs from the first run from token {fork + 1:,} on")
    return escape(visible(" · ".join(facts)))


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _span(token: TracedToken, fork: bool) -> str:
    classes = f"t{step(token.temperature, LARGEST_TEMPERATURE)}"
    classes += " special" if token.special else ""
    classes += " fork" if fork else ""
    content = text_html(token.text) or ("<i>‥</i>" if token.partial_bytes else "<i>∅</i>")
    return f'<span class="{classes}">{content}</span>'


def text_html(text: str) -> str:
    """Text of a model or a user as HTML: escaped, with what cannot be seen as a mark."""
    return "".join(
        _MARKS.get(letter) or (escape(letter) if is_harmless(letter) else f"<i>{escaped(letter)}</i>")
        for letter in text
    )


def _versions(trace: Trace) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in trace.header.versions.items())
    made = f" Made with {versions}." if versions else ""
    return escape(visible(f"Before: the base model's own distribution. After: what was sampled from.{made}"))


def _data(traces: Sequence[Trace]) -> str:
    """The numbers as JSON that an HTML parser sees no markup in. Texts are as shown, so they hold nothing unseen."""
    runs = [[_row(token) for token in trace.tokens] for trace in traces]
    text = json.dumps(runs, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _row(token: TracedToken) -> list[Any]:
    """A token's values in the order that ``page.js`` names them in."""
    return [
        shown(token.text),
        None if token.partial_bytes is None else shown("", token.partial_bytes),
        token.token_id,
        int(token.special),
        *(_short(value) for value in (token.temperature, token.top_p)),
        token.nucleus_size,
        token.rank,
        *(_short(value) for value in (token.base_entropy, token.entropy)),
        *(_short(value) for value in (token.base_probability, token.probability)),
        [_alternative(one) for one in token.alternatives],
    ]


def _alternative(one: Alternative) -> list[Any]:
    text = shown(one.text, one.partial_bytes)
    return [text, one.token_id, _short(one.base_probability), _short(one.probability)]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
