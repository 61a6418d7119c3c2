"""``autodeco split``: a merged checkpoint taken apart again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli.options import ConfigOption
from autodeco.cli.transfer import transfer


def command(
    merged: Annotated[str, typer.Argument(help="Merged (or released full) checkpoint: folder or hub id.")],
    output: Annotated[Path, typer.Option(help="Folder to make for the heads.")],
    output_base: Annotated[Path | None, typer.Option(help="Folder to make for the base model as it was.")] = None,
    revision: Annotated[str | None, typer.Option(help="Hub revision of the checkpoint.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the base's weights, never hard-link them.")] = False,
    config: ConfigOption = None,
) -> None:
    """Take the heads, and the base model if wanted, out of a merged checkpoint.

    \b
    Examples:
      autodeco split runs/merged --output runs/heads
      autodeco split runs/merged --output runs/heads --output-base runs/base
    """
    from autodeco.checkpoint import split

    console = Console()
    with transfer(console, f"splitting {merged}") as progress:
        split(merged, output, output_base, revision=revision, link=not copy, progress=progress)
    console.print(f"heads: {output}", markup=False, highlight=False, soft_wrap=True)
    if output_base is not None:
        console.print(f"base model: {output_base}", markup=False, highlight=False, soft_wrap=True)
