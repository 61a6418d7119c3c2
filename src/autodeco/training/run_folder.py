"""A training run's output folder: whose it is, whether the run in it is finished, and what it left. Trains nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodeco.checkpoint.layout import HEADS_FILE
from autodeco.errors import RunFolderError
from autodeco.training.callbacks import LOG_FILE
from autodeco.training.config import TrainingConfig
from autodeco.training.tokenize import TokenizedData

RUN_FILE = "autodeco_run.json"
# Settings that may differ between the start of a run and its resumption: they do not change the weights.
_FREE_SETTINGS = {
    *("output", "report_to", "save_total_limit"),
    *("hidden_state_folder", "hidden_state_limit_gb", "repair_store"),
}


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run left behind.

    Attributes:
        output: folder with the heads.
        data: the tokenised training data; ``None`` if the run had been finished before.
        log: metrics of every step.
        resumed_from: step of the checkpoint that it went on from, 0 for a new run.
    """

    output: Path
    data: TokenizedData | None
    log: list[dict[str, Any]]
    resumed_from: int


def is_finished(config: TrainingConfig) -> bool:
    """Checks the output folder, and tells whether this very run is finished in it.

    Raises:
        RunFolderError: it holds something else than this very run.
    """
    folder = config.output
    if folder.is_file():
        raise RunFolderError(f"output folder {folder} is a file. Choose another --output.")
    record_path = folder / RUN_FILE
    if not record_path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise RunFolderError(f"output folder {folder} holds files of something else. Choose another --output.")
        return False
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        # A setting that this version has added was not there to be changed: such a run had its default, or what was
        # done before there was a choice.
        defaults = {name: field.default for name, field in type(config).model_fields.items()}
        earlier = defaults | config.FORMER | record["config"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise RunFolderError(f"{record_path} is damaged. Choose another --output, or delete the folder.") from None
    now = config.model_dump(mode="json")
    changed = [
        f"{name} was {earlier.get(name)!r}, is {now[name]!r}"
        for name in now
        if name not in _FREE_SETTINGS and earlier.get(name) != now[name]
    ]
    if changed:
        raise RunFolderError(
            f"output folder {folder} holds another run ({'; '.join(changed)}). Choose another --output, or give the "
            f"same settings to go on with that run."
        )
    return record.get("status") == "finished" and (folder / HEADS_FILE).exists()


def finished_result(config: TrainingConfig, say: Callable[[str], None]) -> TrainingResult:
    """What a run that had been finished before left behind."""
    say(f"this run is finished: the heads are in {config.output}")
    return TrainingResult(config.output, None, read_log(config.output), config.max_steps)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Metrics of every step so far, as the run has logged them."""
    path = folder / LOG_FILE
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
