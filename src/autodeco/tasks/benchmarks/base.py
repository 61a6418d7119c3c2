"""What fixed benchmarks have in common: a source of rows, splits that their authors made, problems in a fixed order."""

from __future__ import annotations

import functools
import hashlib
import json
import random
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from autodeco.errors import DataError, did_you_mean
from autodeco.tasks.base import Example, Task
from autodeco.tasks.benchmarks.rows import Row, Source, read_rows

_SPLITS = ("train", "validation", "test")


class Benchmark(Task):
    """A published set of problems.

    Args:
        data: a local file or folder to read instead of the hub.

    Attributes:
        source: where it is published.
    """

    source: ClassVar[Source]

    def __init__(self, data: str | Path | None = None) -> None:
        self._data = None if data is None else Path(data)

    @abstractmethod
    def example(self, row: Row, where: str) -> Example:
        """One problem from a row; ``where`` is for errors."""

    def rows(self, split: str) -> list[Row]:
        """The rows of one split. Most benchmarks are for testing only.

        Raises:
            DataError: there is no such split, or the data are absent.
        """
        if split != "test":
            raise DataError(
                f"task '{self.name}' has a test split only: heads trained or chosen on a benchmark's own problems say "
                f"nothing about it. For training take gsm8k, reasoning-gym/FAMILY or a JSONL file of your own."
            )
        return read_rows(self.name, self.source, self._data)

    def examples(self, split: str, count: int | None, seed: int) -> list[Example]:
        """``count`` problems that the seed picks, or all in their published order; see :meth:`Task.examples`."""
        if split not in _SPLITS:
            raise DataError(f"task '{self.name}': unknown split '{split}'.{did_you_mean(split, _SPLITS)}")
        if count is not None and count < 1:
            raise DataError(f"task '{self.name}': at least 1 problem is needed, {count} were asked for.")
        every = self._all(split)
        if count is None:
            return list(every)
        if count > len(every):
            raise DataError(
                f"task '{self.name}': {count} {split} problems were asked for, and there are {len(every)}. Ask for "
                f"fewer."
            )
        return random.Random(seed).sample(every, count)

    def fingerprint(self) -> dict[str, Any]:
        """A hash of the test problems, prompts and answers; where they were read from does not matter."""
        problems = [[e.id, e.messages, e.answer, e.metadata] for e in self._all("test")]
        content = json.dumps(problems, sort_keys=True, ensure_ascii=False).encode()
        return {"task": self.name, "problems": len(problems), "sha256": hashlib.sha256(content).hexdigest()}

    @functools.cache  # noqa: B019 - a task lives as long as the run
    def _all(self, split: str) -> list[Example]:
        where = str(self._data or self.source.hub_id)
        found = [self.example(row, f"{where}, problem {i}") for i, row in enumerate(self.rows(split), start=1)]
        if len({example.id for example in found}) < len(found):
            raise DataError(f"{where}: two problems have the same id; is it two copies of the data set in one file?")
        return found
