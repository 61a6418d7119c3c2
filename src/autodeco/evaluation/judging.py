"""Judges completions beside the engine: verifiers that take seconds do not keep it waiting, rows come in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from autodeco.rollouts.sampler import Sample
from autodeco.tasks.base import Example, Task, Verdict

_MOST_THREADS = 8

Judged = list[tuple[Sample, Verdict]]


class Judge:
    """Judges batches in threads and hands them on in the order in which they came.

    Args:
        task: whose verifier is used, in several threads if it says that it may be.
        examples: that samples' prompt indices point to.
        take: called with each batch when all of it is judged, in the thread that calls this object.
        most_waiting: samples that may wait; with more, :meth:`put` waits for the oldest batch.
    """

    def __init__(
        self, task: Task, examples: Sequence[Example], take: Callable[[Judged], None], most_waiting: int
    ) -> None:
        self._task = task
        self._examples = examples
        self._take = take
        self._most_waiting = most_waiting
        self._waiting: deque[list[tuple[Sample, Future[Verdict]]]] = deque()
        threads = min(_MOST_THREADS, os.cpu_count() or 1) if task.concurrent else 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="autodeco-judge")

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Waits for all verdicts; after an error or Ctrl-C only takes those that are there."""
        try:
            self._hand_on(all_of_them=kind is None)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def put(self, samples: Sequence[Sample]) -> None:
        """Judges a batch; hands on what is ready."""
        judge, examples = self._task.judge, self._examples
        self._waiting.append([(one, self._pool.submit(judge, examples[one.prompt_index], one.text)) for one in samples])
        self._hand_on()

    def _hand_on(self, *, all_of_them: bool = False) -> None:
        while self._waiting and (
            all_of_them
            or sum(map(len, self._waiting)) > self._most_waiting
            or all(verdict.done() for _, verdict in self._waiting[0])
        ):
            batch = self._waiting[0]
            judged = [(sample, verdict.result()) for sample, verdict in batch]
            self._waiting.popleft()
            self._take(judged)
