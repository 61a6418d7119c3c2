"""The published sweep within a run: its second stage depends on the results of the first, on test or on validation.

What was chosen is written to ``choices.json``; the settings themselves are ordinary static strategies in the results.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autodeco.evaluation.drawing import Drawing, Job
from autodeco.evaluation.entries import ORACLE, Planned
from autodeco.evaluation.oracle import Choice, Sweep
from autodeco.evaluation.results import read_results
from autodeco.files import atomic_write_text

CHOICES_FILE = "choices.json"
# The published one.
SWEEP = Sweep()


def first_stage() -> list[Planned]:
    """The temperatures at top-p 1."""
    return [Planned.of(spec) for spec in SWEEP.first_stage()]


def oracle(drawing: Drawing, job: Job, folder: Path) -> Choice:
    """Sweeps on the very problems that are evaluated: the expert-guided tuning of the paper, which nobody can use."""
    return _sweep(drawing, job, folder, ORACLE)


def chosen_on_validation(drawing: Drawing, job: Job, validation: Job, folder: Path) -> Choice:
    """Sweeps on the validation split, then evaluates what was chosen: what a careful user gets."""
    choice = _sweep(drawing, validation, folder, f"{ORACLE}:split=validation")
    _draw(drawing, job, [Planned.of(choice.spec)])
    return choice


def _sweep(drawing: Drawing, job: Job, folder: Path, name: str) -> Choice:
    _draw(drawing, job, first_stage())
    _draw(drawing, job, [Planned.of(spec) for spec in SWEEP.second_stage(_scores(job))])
    choice = SWEEP.choose(_scores(job))
    _record(folder, {"model": job.model, "task": job.label, "sweep": name, "chosen_on": job.split}, choice)
    return choice


def _draw(drawing: Drawing, job: Job, strategies: Sequence[Planned]) -> None:
    missing = [strategy for strategy in strategies if not drawing.is_done(job, strategy)]
    drawing.expect(job, missing)
    drawing.draw(job, missing)


def _scores(job: Job) -> dict[str, float]:
    """Pass@1 of each strategy: the mean over problems of the share of right samples."""
    frame = read_results(job.writer.path, columns=["correct"])
    own = frame[(frame["model"] == job.model) & (frame["task"] == job.label) & frame["correct"].notna()]
    shares = own.groupby(["strategy", "problem"])["correct"].mean()
    found: dict[str, float] = shares.groupby(level="strategy").mean().astype(float).to_dict()
    return found


def _record(folder: Path, what: dict[str, Any], choice: Choice) -> None:
    path = folder / CHOICES_FILE
    rows = json.loads(path.read_text(encoding="utf-8"))["choices"] if path.is_file() else []
    rows = [row for row in rows if any(row.get(name) != value for name, value in what.items())]
    rows.append({**what, "strategy": choice.spec, "score": choice.score, "at_edge": choice.at_edge})
    atomic_write_text(path, json.dumps({"choices": rows}, indent=2) + "\n")
