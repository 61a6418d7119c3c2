"""``autodeco control eval``: whether the heads follow decoding commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autodeco.cli.options import BaseModelOption, ConfigOption, DtypeOption


def command(
    model: Annotated[str, typer.Argument(help="Heads, or a merged or released checkpoint.")],
    output: Annotated[Path, typer.Option(help="Folder for texts and results.")],
    prompts: Annotated[int, typer.Option(min=2, help="Test prompts.")] = 100,
    samples: Annotated[int, typer.Option(min=1, help="Texts of each prompt and condition.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest text.")] = 128,
    task: Annotated[str, typer.Option(help="Whose prompts: open-prompts, a benchmark, a JSONL file.")] = "open-prompts",
    data: Annotated[Path | None, typer.Option(help="The task's local file or folder.")] = None,
    commands: Annotated[Path | None, typer.Option(help="Own commands, a YAML file.")] = None,
    position: Annotated[
        list[str] | None, typer.Option(help="system, before or after; repeatable. Default all.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(help="none again, low, high, absolute, look-alike, ...; repeatable. Default all."),
    ] = None,
    split: Annotated[str, typer.Option(help="Of prompts and phrasings: test, validation or train.")] = "test",
    seed: Annotated[int, typer.Option(help="Of commands and sampling.")] = 0,
    engine: Annotated[str, typer.Option(help="vllm, transformers or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Texts drawn together.")] = 64,
    base_model: BaseModelOption = None,
    dtype: DtypeOption = "auto",
    config: ConfigOption = None,
) -> None:
    """Measure on unseen prompts and unseen phrasings whether temperature, top-p and the text follow commands.

    Stopped and run again with the same options, it goes on where it was.

    \b
    Examples:
      autodeco control eval runs/control --output runs/control-eval
      autodeco control eval runs/heads --prompts 20 --max-new-tokens 64 --output runs/before-training
      autodeco control eval runs/control --condition look-alike --condition "none again" --samples 8 --output runs/alike
      autodeco control eval runs/control --commands own.yaml --position system --output runs/own
    """
    from autodeco.control.measurement import CONDITIONS, MeasureSettings, document, measure
    from autodeco.control.measurement.run import TABLES_FILE
    from autodeco.control.placement import POSITIONS, checked_position
    from autodeco.evaluation.report.document import Table as Data
    from autodeco.progress import counting

    console = Console()
    settings = MeasureSettings(
        model=model,
        output=output,
        prompts=prompts,
        task=task,
        data=data,
        samples=samples,
        max_new_tokens=max_new_tokens,
        seed=seed,
        commands=commands,
        split=split,
        positions=tuple(checked_position(one) for one in position) if position else POSITIONS,
        conditions=tuple(condition or CONDITIONS),
        engine=engine,
        batch_size=batch_size,
        base=base_model,
        dtype=dtype,
    )
    with counting(console, "measuring") as progress:
        results = measure(settings, progress)
    for section in document(results, model).sections:
        for part in section.parts:
            if isinstance(part, Data):
                table = Table(*part.columns, title=part.title, caption=part.note)
                for row in part.rows:
                    table.add_row(*(Text(cell) for cell in row))
                console.print(table)
    console.print(f"written: {output / TABLES_FILE}", highlight=False, markup=False, soft_wrap=True)
