"""``autodeco merge``: base model and heads as one folder that inference engines load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli.options import ConfigOption
from autodeco.cli.transfer import transfer


def command(
    heads: Annotated[str, typer.Option(help="Folder or hub id of the heads, in any layout.")],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    base: Annotated[str | None, typer.Option(help="Base model; without it the one that the heads record.")] = None,
    base_revision: Annotated[str | None, typer.Option(help="Hub revision of the base.")] = None,
    heads_revision: Annotated[str | None, typer.Option(help="Hub revision of the heads.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the base's weights, never hard-link them.")] = False,
    dtype: Annotated[
        str, typer.Option(help="Of weights that an adapter is added to: auto (the base's), bfloat16, float16, float32.")
    ] = "auto",
    config: ConfigOption = None,
) -> None:
    """Put a base model and heads into one folder that inference engines load.

    The base's weights are hard-linked where the disk allows it, and never loaded. A LoRA adapter that the heads were
    trained with is added to them: then they are loaded, and written anew, rounded to --dtype.

    \b
    Examples:
      autodeco merge --heads runs/heads --output runs/merged
      autodeco merge --base smollm2-135m --heads runs/heads --output runs/merged
      autodeco merge --heads runs/lora --output runs/lora-merged --dtype float32
    """
    from autodeco.checkpoint import merge

    console = Console()
    with transfer(console, f"merging into {output}") as progress:
        linked = merge(
            base,
            heads,
            output,
            base_revision=base_revision,
            heads_revision=heads_revision,
            link=not copy,
            dtype=dtype,
            progress=progress,
        )
    note = f" ({linked} weight files hard-linked)" if linked else ""
    console.print(f"merged checkpoint: {output}{note}", markup=False, highlight=False, soft_wrap=True)
