"""What a training run shows and refuses: a progress bar, a log file, and no step with a gradient that is not finite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback

from autodeco.errors import TrainingError
from autodeco.files import append_jsonl, atomic_write_text

LOG_FILE = "training_log.jsonl"


class ProgressBar(TrainerCallback):  # type: ignore[misc]
    """A bar with the time left and the latest loss, temperature and top-p."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts the bar, at the step a resumed run is at."""
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
        )
        self._progress.start()
        self._task = self._progress.add_task("train", total=state.max_steps, completed=state.global_step, values="")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Moves the bar and shows the values."""
        if self._progress is not None and logs and "temperature_mean" in logs:
            values = f"loss {logs['loss']:.4f}  T {logs['temperature_mean']:.3f}  P {logs['top_p_mean']:.3f}"
            self._progress.update(self._task, completed=state.global_step, values=values)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ends the bar."""
        self.close()

    def close(self) -> None:
        """Ends the bar, also after an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class LogFile(TrainerCallback):  # type: ignore[misc]
    """Appends every step's metrics to ``training_log.jsonl``, one JSON object a line."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG_FILE

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Drops what an interrupted run logged after its last checkpoint: those steps are run again."""
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _is_up_to(line, state.global_step)]
            atomic_write_text(self._path, "".join(f"{line}\n" for line in kept))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Appends one line."""
        if logs and state.is_world_process_zero:
            append_jsonl(self._path, [{"step": state.global_step, **logs}])


class FiniteGradients(TrainerCallback):  # type: ignore[misc]
    """Stops training before an optimiser step with a NaN or infinite gradient."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Checks every gradient.

        Raises:
            TrainingError: one is not finite.
        """
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                raise TrainingError(
                    f"the gradient of {name} is not finite at step {state.global_step + 1}. The optimiser has not used "
                    f"it. Lower the learning rate, or run the base model in bfloat16 or float32."
                )


def _is_up_to(line: str, step: int) -> bool:
    try:
        return int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError):
        return False  # cut off in the middle
