"""The progress bar of long commands: how far, how long so far, how long to go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Show(Protocol):
    """Moves a bar."""

    def __call__(self, done: int, total: int, what: str | None = None, /) -> None:
        """Shows how many are done of how many and, if it has changed, what is running."""


@contextmanager
def counting(console: Console, what: str) -> Iterator[Show]:
    """Shows a bar while the block runs; gives the callback that moves it."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int, what: str | None = None, /) -> None:
            bar.update(task, completed=done, total=total, description=what)

        yield show
