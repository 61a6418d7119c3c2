"""``autodeco trace``: show what the heads chose at each token, in the terminal or as one HTML page.

Of a trace file, or, with a model, of a server's answer or of any text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autodeco.cli.options import ConfigOption
from autodeco.errors import ConfigError, DataError

if TYPE_CHECKING:
    from autodeco.trace.format import Trace


def command(
    files: Annotated[
        list[Path],
        typer.Argument(help="Trace files; with --model, a server's answers (JSON) or, with --prompt, texts."),
    ],
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page of up to four traces.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Print a table with a row for each token.")] = False,
    model: Annotated[str | None, typer.Option(help="Make the traces, by one pass of this model over each.")] = None,
    prompt: Annotated[str | None, typer.Option(help="With --model: what the files' texts are answers to.")] = None,
    output: Annotated[Path | None, typer.Option(help="With --model: keep the trace of one file here.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="With --model: that of the request; multiplies T.")] = 1.0,
    strategy: Annotated[str, typer.Option(help="With --model: decoding strategy of the answer.")] = "autodeco",
    config: ConfigOption = None,
) -> None:
    """Show traces: temperature, top-p and the best alternatives of every token.

    \b
    Examples:
      autodeco trace answer.jsonl
      autodeco trace answer.jsonl --tokens
      autodeco trace autodeco.jsonl default.jsonl --html compared.html
      autodeco trace answer.json --model runs/heads --output answer.jsonl
      autodeco trace essay.txt --model runs/heads --prompt "Write about the sea." --html essay.html
    """
    from autodeco.trace.format import read_trace, write_trace
    from autodeco.trace.page import write_page
    from autodeco.trace.terminal import print_trace, token_table

    if html is not None and tokens:
        raise ConfigError("--tokens prints a table and --html writes a page; give one of them.")
    if model is None and (prompt is not None or output is not None):
        raise ConfigError("--prompt and --output are for making a trace: name the model with --model.")
    if output is not None and len(files) > 1:
        raise ConfigError(f"--output keeps the trace of one file, and {len(files)} were given.")
    traces = (
        [read_trace(path) for path in files]
        if model is None
        else _made(files, model, prompt, strategy=strategy, temperature=temperature)
    )
    if output is not None:
        write_trace(output, traces[0])
    console = Console()
    if not console.is_terminal:
        console.width = 160  # of a table: room for every column
    if html is not None:
        write_page(html, traces)
        console.print(f"page: {html}", markup=False, highlight=False, soft_wrap=True)
        return
    for trace in traces:
        if tokens:
            console.print(token_table(trace))
        else:
            print_trace(console, trace)


def _made(files: list[Path], model: str, prompt: str | None, *, strategy: str, temperature: float) -> list[Trace]:
    """Traces of a server's answers or, where there is a prompt, of the files' texts as answers to it."""
    from autodeco.cli.prompts import prompt_token_ids
    from autodeco.serving.load import load_model_and_tokenizer
    from autodeco.strategies import get_strategy
    from autodeco.trace.make import trace_text
    from autodeco.trace.response import read_response

    # Before the model is loaded: what cannot be read, or is no strategy, is to be known at once.
    get_strategy(strategy)
    answers = [read_response(path) for path in files] if prompt is None else []
    texts = [] if prompt is None else [_text(path) for path in files]
    loaded, tokenizer = load_model_and_tokenizer(model)
    ids = [(answer.prompt_ids, answer.completion_ids) for answer in answers]
    if prompt is not None:
        prompt_ids = prompt_token_ids(tokenizer, prompt)
        ids = [(prompt_ids, tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    with loaded.decode_with(strategy):
        return [trace_text(loaded, tokenizer, *one, temperature=temperature, name=model) for one in ids]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error!s:.100}).") from None
