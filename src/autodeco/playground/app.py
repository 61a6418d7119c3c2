"""The playground's page, in Gradio: controls, and what happens when they are used. Decodes nothing itself."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from autodeco.errors import AutoDecoError, ConfigError
from autodeco.playground import export, view
from autodeco.playground.answering import AnsweringModel
from autodeco.playground.draw import Answer, draw
from autodeco.playground.request import Request, Way
from autodeco.steering import PRESETS, Decoding
from autodeco.trace.page import MAX_RUNS

_SECONDS_BETWEEN_UPDATES = 0.15
_EXAMPLE_COMMAND = "Please ensure that the diversity of your output is low."
_AS_TRAINED, _FIXED = "as trained", "fixed"
# For an accordion with fields in it. Where ``open`` is False itself, Gradio 6.31 renders them when it is opened, and a
# frame later sets them to their first values: what is typed by then is lost. Where it is merely false, they are there.
_CLOSED_BUT_RENDERED = 0

# What changes while answers are drawn: status, answers, Python, files.
Update = tuple[str, Any, Any, Any]


def build(model: AnsweringModel | None, report: Callable[[], str] | None, folder: Path) -> Any:
    """The page as a Gradio application, not yet served.

    Args:
        model: what answers; ``None`` for a page with the report alone.
        report: makes the page on a run, anew whenever somebody opens the playground; ``None`` for none.
        folder: for the files that are handed out.
    """
    with gr.Blocks(title="autodeco playground", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(view.heading(model.name if model else None, model.notice if model else ""))
        if model is not None and report is not None:
            with gr.Tab("Decode"):
                _Decoding(model, folder)
            with gr.Tab("Run"):
                _report(report)
        elif model is not None:
            _Decoding(model, folder)
        elif report is not None:
            _report(report)
    return page


def _report(report: Callable[[], str]) -> None:
    def shown() -> str:
        try:
            return view.frame(report(), "Report on the run", "report")
        except AutoDecoError as error:
            return view.error(str(error))

    gr.HTML(shown)


class _Decoding:
    """Controls and answers, and what connects them."""

    def __init__(self, model: AnsweringModel, folder: Path) -> None:
        self._model, self._folder = model, folder
        self._running: dict[str | None, threading.Event] = {}  # by session
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                prompt = gr.Textbox("", label="Prompt", lines=4, max_lines=12)
                with gr.Row():
                    generate = gr.Button("Generate", variant="primary", size="md", min_width=90)
                    again = gr.Button("New seed", size="md", min_width=90)
                    stop = gr.Button("Stop", size="md", min_width=60)
                seed, inputs = self._settings()
            with gr.Column(scale=5, min_width=320):
                status = gr.HTML(elem_id="status")
                answers = gr.HTML(elem_id="answers")
                with gr.Accordion("Keep it: traces, and the Python that draws the same", open=False):
                    files = gr.File(label="Files", file_count="multiple", interactive=False)
                    code = gr.HTML()
        options = {"inputs": [prompt, *inputs], "outputs": [status, answers, code, files], "show_progress": "hidden"}
        options |= {"concurrency_id": "answers", "api_visibility": "private"}
        generate.click(self._answer, **options)
        again.click(_next, seed, seed, show_progress="hidden", api_visibility="private").then(self._answer, **options)
        stop.click(self._stop, queue=False, show_progress="hidden", api_visibility="private")

    def _settings(self) -> tuple[Any, list[Any]]:
        has_heads, strategies = self._model.has_heads, list(self._model.strategies)
        beside = gr.Dropdown(
            strategies,
            value=strategies[:1],
            multiselect=True,
            allow_custom_value=True,
            max_choices=MAX_RUNS - has_heads,
            label="Beside AutoDeco" if has_heads else "Strategies",
            info="Any strategies, such as static:temperature=0.7,top_p=0.9 (type it, then Enter).",
        )
        with gr.Row():
            longest = gr.Number(256, label="Longest answer", precision=0, minimum=1, min_width=90)
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90)
        with gr.Accordion("System message and steering", open=_CLOSED_BUT_RENDERED):
            system = gr.Textbox("", label="System message", lines=2, max_lines=6)
            command = gr.Textbox(
                "",
                label="Decoding command in words",
                info="Put after the prompt. Heads follow it if they were trained to.",
                placeholder=_EXAMPLE_COMMAND,
            )
            steer = gr.Radio(
                [_AS_TRAINED, *PRESETS, _FIXED],
                value=_AS_TRAINED,
                label="Decoding without words",
                info="What becomes of AutoDeco's T and P; 'fixed' takes the values below in their place.",
                visible=self._model.can_steer,
            )
            with gr.Row(visible=self._model.can_steer):
                temperature = gr.Textbox("", label="Fixed T", placeholder="the heads'", min_width=90)
                top_p = gr.Textbox("", label="Fixed P", placeholder="the heads'", min_width=90)
        return seed, [system, command, steer, temperature, top_p, beside, longest, seed]

    def _answer(
        self,
        prompt: str,
        system: str,
        command: str,
        steer: str,
        temperature: str,
        top_p: str,
        beside: list[str],
        longest: int | None,
        seed: int | None,
        session: gr.Request,
    ) -> Iterator[Update]:
        stop = self._running[session.session_hash] = threading.Event()
        try:
            ways = [Way(decoding=_decoding(steer, temperature, top_p))] if self._model.has_heads else []
            ways += [Way(strategy) for strategy in beside]
            request = Request(prompt, ways, system, command, longest or 1, seed or 0)
            yield from self._drawn(self._model.fit(request), stop)
        except AutoDecoError as error:
            yield view.error(str(error)), "", "", None
        finally:
            self._running.pop(session.session_hash, None)

    def _drawn(self, request: Request, stop: threading.Event) -> Iterator[Update]:
        answers: list[Answer] = []
        shown = 0.0
        yield view.status("Reading the prompt …"), "", "", None
        try:
            for answers in draw(self._model, request, stop):
                if time.monotonic() - shown > _SECONDS_BETWEEN_UPDATES:
                    shown = time.monotonic()
                    yield view.status("Drawing …"), view.live(answers), gr.skip(), gr.skip()
        except AutoDecoError as error:  # what had come stays
            yield view.error(str(error)), view.live(answers) if answers else "", "", None
            return
        code = self._model.script(request)
        files = export.write_files(Path(tempfile.mkdtemp(dir=self._folder)), answers, code)
        yield view.status(_outcome(answers, stop.is_set())), view.traced(answers), view.python(code), files

    def _stop(self, session: gr.Request) -> None:
        if (running := self._running.get(session.session_hash)) is not None:
            running.set()


def _decoding(steer: str, temperature: str, top_p: str) -> Decoding | None:
    if steer == _AS_TRAINED:
        return None
    if steer != _FIXED:
        return steer
    given = {"temperature": temperature.strip(), "top_p": top_p.strip()}
    try:
        fixed = {name: float(value) for name, value in given.items() if value}
    except ValueError:
        raise ConfigError(f"Fixed T and P are numbers or empty, found '{temperature}' and '{top_p}'.") from None
    if not fixed:
        raise ConfigError("'fixed' needs a T, a P or both, and both are empty. Fill in one, or choose 'as trained'.")
    return fixed


def _next(seed: int | None) -> int:
    return (seed or 0) + 1


def _outcome(answers: list[Answer], stopped: bool) -> str:
    means = "; ".join(f"{answer.way.name}: {view.facts(answer)}" for answer in answers)
    return f"{'Stopped' if stopped else 'Done'}. {means}."
