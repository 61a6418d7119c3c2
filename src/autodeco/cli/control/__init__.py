"""``autodeco control``: decoding commands in plain words, one file a subcommand."""

from __future__ import annotations

import typer

from autodeco.cli.control import eval, show, train, try_

app = typer.Typer(
    help="Teach the heads decoding commands in plain words, try them and measure them.", no_args_is_help=True
)
app.command(name="train")(train.command)
app.command(name="eval")(eval.command)
app.command(name="try")(try_.command)
app.command(name="show")(show.command)
