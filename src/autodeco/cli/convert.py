"""``autodeco convert``: a checkpoint rewritten in another layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli.options import ConfigOption
from autodeco.cli.transfer import transfer


def command(
    source: Annotated[str, typer.Argument(help="Checkpoint with heads, in any layout: folder or hub id.")],
    to: Annotated[str, typer.Option(help="heads, merged, released-heads or released-full.")],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    base: Annotated[str | None, typer.Option(help="Base model, where the source does not hold or record it.")] = None,
    revision: Annotated[str | None, typer.Option(help="Hub revision of the source.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the base's weights, never hard-link them.")] = False,
    config: ConfigOption = None,
) -> None:
    """Rewrite a checkpoint in another layout, bit for bit and without loading it.

    'released-heads' and 'released-full' are the layouts of the method's authors.

    \b
    Examples:
      autodeco convert runs/heads --to released-heads --output runs/released-heads
      autodeco convert runs/merged --to released-full --output runs/released
      autodeco convert owner/released-checkpoint --to heads --output runs/heads
    """
    from autodeco.checkpoint import convert

    console = Console()
    with transfer(console, f"converting {source}") as progress:
        convert(source, output, to, base=base, revision=revision, link=not copy, progress=progress)
    console.print(f"{to}: {output}", markup=False, highlight=False, soft_wrap=True)
