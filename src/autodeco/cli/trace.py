"""``autodeco trace``: show what the heads chose at each token, in the terminal or as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli.options import ConfigOption
from autodeco.errors import ConfigError


def command(
    files: Annotated[list[Path], typer.Argument(help="Trace files, from 'autodeco generate --trace-file'.")],
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page of up to four traces.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Print a table with a row for each token.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show traces: temperature, top-p and the best alternatives of every token.

    \b
    Examples:
      autodeco trace answer.jsonl
      autodeco trace answer.jsonl --tokens
      autodeco trace autodeco.jsonl default.jsonl --html compared.html
    """
    from autodeco.trace.format import read_trace
    from autodeco.trace.page import write_page
    from autodeco.trace.terminal import print_trace, token_table

    if html is not None and tokens:
        raise ConfigError("--tokens prints a table and --html writes a page; give one of them.")
    traces = [read_trace(path) for path in files]
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
