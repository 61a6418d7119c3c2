"""``autodeco playground``: try a model in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli.options import LOOPBACK, BaseModelOption, ConfigOption, DtypeOption
from autodeco.errors import ConfigError


def command(
    model: Annotated[
        str | None, typer.Argument(help="Heads' folder, merged or released checkpoint, or hub id.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Show a run's curves, tables and sweep: folder of 'train', 'eval' or 'demo'.")
    ] = None,
    base_model: BaseModelOption = None,
    dtype: DtypeOption = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    config: ConfigOption = None,
) -> None:
    """Try a model in the browser: AutoDeco beside default sampling and others, live, with T and P at every token.

    \b
    Examples:
      autodeco playground runs/heads
      autodeco playground runs/heads --run runs/eval --port 8080 --no-browser
      autodeco playground --run demo-run
    """
    if model is None and run is None:
        raise ConfigError("nothing to show: name a model (such as runs/heads), or a run with --run FOLDER.")
    from autodeco.playground.model import LocalModel
    from autodeco.playground.run_folder import run_page
    from autodeco.playground.serve import serve

    console = Console(stderr=True)
    if host not in LOOPBACK:
        console.print(
            f"warning: listening on {host} without a password: whoever reaches this machine can use the model. Keep to "
            f"127.0.0.1 unless only people you trust reach it.",
            style="yellow",
            soft_wrap=True,
        )
    if run is not None:
        run_page(run)  # what cannot be shown is said here, before a model is loaded
    loaded = None if model is None else LocalModel.load(model, base_model, dtype=dtype)
    report = None if run is None else lambda: run_page(run)

    def say(url: str) -> None:
        console.print(f"playground: {url} (Ctrl-C ends it)", markup=False, highlight=False, soft_wrap=True)

    serve(loaded, report, host=host, port=port, browser=browser, say=say)
