"""``autodeco diagnose``: do the heads adapt, or are they a constant in disguise?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def command(
    model: Annotated[str, typer.Argument(help="Heads, or a merged or released checkpoint.")],
    data: Annotated[Path, typer.Option(help="JSONL of trajectories, as autodeco rollout writes them.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for diagnosis.json: an evaluation's, and its report shows it.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=4, help="This many trajectories, chosen by chance.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Instead of the base that the heads record.")] = None,
    dtype: Annotated[str, typer.Option(help="Of the base: auto, bfloat16 or float32.")] = "auto",
) -> None:
    """Measure on teacher-forced tokens whether the heads' temperature is better than a constant one.

    The constants are chosen on one half of the problems, everything is measured on the other. No sampling.

    \b
    Examples:
      autodeco diagnose runs/heads --data runs/rollouts/right.jsonl
      autodeco diagnose runs/heads --data validation.jsonl --rows 500 --output runs/eval
    """
    from autodeco.evaluation.diagnosis import verdict
    from autodeco.evaluation.diagnosis.held_out import diagnose_trajectories
    from autodeco.evaluation.report.records import DIAGNOSIS_FILE
    from autodeco.progress import counting

    console = Console()
    with counting(console, "reading trajectories") as progress:
        found = diagnose_trajectories(model, data, base=base_model, dtype=dtype, rows=rows, on_progress=progress)
    console.print(verdict(found), highlight=False, markup=False)
    if output is not None:
        path = output / DIAGNOSIS_FILE
        found.write(path)
        console.print(f"written: {path}", highlight=False, markup=False, soft_wrap=True)
