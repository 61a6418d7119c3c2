"""``autodeco inspect``: what is in a checkpoint, and whether its heads are sound."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from autodeco.checkpoint import Inspection
    from autodeco.config import AutoDecoConfig


def command(
    path: Annotated[str, typer.Argument(help="Checkpoint or base model: folder or hub id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
) -> None:
    """Show a checkpoint's layout, base model, sizes, and the health of its heads and their LoRA adapter.

    Exits with status 1 if they could not be loaded as they are.

    \b
    Examples:
      autodeco inspect runs/heads
      autodeco inspect runs/merged --json
    """
    from autodeco.checkpoint import inspect

    found = inspect(path, revision)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _show(found, Console())
    if found.problems:
        raise typer.Exit(1)


def _show(found: Inspection, console: Console) -> None:
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(found):
        facts.add_row(name, value)
    console.print(facts, markup=False, highlight=False)
    if found.tensors:
        table = Table(Column("tensor", no_wrap=True), "shape", "dtype", "mean", "largest", "NaN, inf")
        for tensor in found.tensors:
            bad = str(tensor.non_finite) if tensor.non_finite == 0 else f"[red]{tensor.non_finite}[/red]"
            shape = "x".join(str(size) for size in tensor.shape)
            table.add_row(tensor.name, shape, tensor.dtype, f"{tensor.mean:.3g}", f"{tensor.absmax:.3g}", bad)
        console.print(table)
    for problem in found.problems:
        console.print(f"problem: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)


def _prompt_summary(config: AutoDecoConfig) -> str:
    engines = "Transformers only" if config.adapter_sha256 is not None else "Transformers, and vLLM on CPUs"
    return f"yes: {engines}; cannot be merged"


def _facts(found: Inspection) -> list[tuple[str, str]]:
    facts = [("checkpoint", found.name), ("layout", found.layout)]
    if found.config is None:
        facts[-1] = ("layout", "a plain model without decoding heads")
    if found.architecture:
        facts.append(("architecture", found.architecture))
    if found.config is not None:
        heads = [("temperature", found.config.temperature_head), ("top-p", found.config.top_p_head)]
        facts += [
            ("base model", found.base_model or "not recorded"),
            ("heads", " and ".join(name for name, present in heads if present)),
            ("hidden size", f"{found.config.hidden_size:,}"),
            ("vocabulary", "not recorded" if found.config.vocab_size is None else f"{found.config.vocab_size:,}"),
            *([("prompt summary", _prompt_summary(found.config))] if found.config.prompt_summary else []),
            ("head weights", f"{found.head_parameters:,} ({_size(found.head_bytes)})"),
        ]
    if (adapter := found.adapter) is not None:
        size = f"{adapter.parameters:,} ({_size(adapter.nbytes)})"
        layers = ", ".join(adapter.targets)
        facts.append(("LoRA adapter", f"{size}, rank {adapter.rank}, alpha {adapter.alpha:g}, on {layers}"))
    if found.base_bytes is not None:
        number = "" if found.base_parameters is None else f"{found.base_parameters:,} "
        dtypes = f", {', '.join(found.base_dtypes)}" if found.base_dtypes else ""
        facts.append(("base weights", f"{number}({_size(found.base_bytes)}{dtypes})"))
    return facts


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.2f} MB"
