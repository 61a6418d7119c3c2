"""What the playground shows, as HTML: every text of a model, a user or an error is escaped here. Runs no model."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import cast

from autodeco.playground.answering import DrawnToken
from autodeco.playground.draw import Answer
from autodeco.trace.format import summary
from autodeco.trace.page import render_page
from autodeco.trace.page.colours import scale_classes, step
from autodeco.trace.page.document import LARGEST_TEMPERATURE, legend, text_html
from autodeco.trace.stream import StreamedToken
from autodeco.trace.text import visible

# Of the live text only: the pages in frames bring their own. Gradio marks its dark theme with a class.
STYLE = """
.live { color-scheme: light; } .dark .live { color-scheme: dark; }
.live .answers { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.live h2 { font-size: 1rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
.live .text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; line-height: 1.95; margin: 0; }
.live .text span { padding-block: .1em .18em; color: light-dark(#1c1c1a, #ececea); }
.live .text i { font-style: normal; font-size: .72em; }
.live .facts, .live .legend { font-size: .8125rem; margin: .5rem 0 0; }
.live .legend { margin: 0 0 1rem; }
.live .scale span { padding: .1rem .45rem .2rem; font-size: .75rem; color: light-dark(#1c1c1a, #ececea); }
#status { min-height: 1.5rem; } #status p { margin: 0; overflow-wrap: anywhere; }
#status .error { border-left: 4px solid #b3261e; padding-left: .75rem; }
.python { white-space: pre; overflow: auto; max-height: 24rem; padding: .75rem; font-size: .8125rem; }
.frame { width: 100%; border: 0; display: block; }
.frame.trace { height: 46rem; } .frame.report { height: 80vh; }
footer { display: none !important; }
""" + scale_classes()


def live(answers: Sequence[Answer]) -> str:
    """Answers while they are drawn: text tinted by temperature."""
    return f'<div class="live">{legend()}<div class="answers">{"".join(map(_answer, answers))}</div></div>'


def _answer(answer: Answer) -> str:
    spans = "".join(_span(token) for token in answer.tokens)
    return (
        f"<section><h2>{escape(visible(answer.way.name))}</h2>"
        f'<p class="text" dir="auto">{spans}</p><p class="facts">{facts(answer)}</p></section>'
    )


def facts(answer: Answer) -> str:
    """How long an answer is, and its mean T and P where they are known."""
    if answer.trace is not None:
        return answer.trace.summary
    if not answer.tokens:
        return "not begun"
    if answer.tokens[0].temperature is None:
        return f"pieces of text: {len(answer.tokens):,}"
    return summary(cast("list[StreamedToken]", answer.tokens))


def _span(token: DrawnToken) -> str:
    if token.temperature is None:
        return f"<span>{text_html(token.text)}</span>"
    return f'<span class="t{step(token.temperature, LARGEST_TEMPERATURE)}">{text_html(token.text)}</span>'


def traced(answers: Sequence[Answer]) -> str:
    """The trace page of all answers that have one, in a frame; their text alone where none has."""
    traces = [answer.trace for answer in answers if answer.trace is not None]
    return frame(render_page(traces), "Traces of the answers", "trace") if traces else live(answers)


def frame(page: str, title: str, kind: str) -> str:
    """A whole page within this one. It runs its own script at most, and reaches nothing outside itself."""
    return f'<iframe class="frame {kind}" title="{title}" sandbox="allow-scripts" srcdoc="{escape(page)}"></iframe>'


def python(code: str) -> str:
    """A script to be read and copied; not Gradio's own code field, which is there late and without a name."""
    return f'<pre class="python" tabindex="0" role="region" aria-label="Python">{escape(code)}</pre>'


def status(message: str) -> str:
    """What is going on, in one line."""
    return f'<p role="status">{escape(visible(message))}</p>'


def error(message: str) -> str:
    """What went wrong, and what to do."""
    return f'<p class="error" role="alert"><strong>Error.</strong> {escape(visible(message))}</p>'


def heading(model: str | None, notice: str) -> str:
    """The title and, where there is something to say about the model, a notice."""
    title = "autodeco playground" + (f": {model}" if model else "")
    return f"<h1>{escape(visible(title))}</h1>" + (f"<p>{escape(notice)}</p>" if notice else "")
