"""What a task is: prompts, and a verifier that tells right completions from wrong ones.

Knows nothing about models. A task is one small class in a file of its own.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from autodeco.errors import DataError, did_you_mean
from autodeco.tasks.answers import extract_answer

# Tenths of all problems that belong to each split.
_SPLITS = {"train": range(0, 6), "validation": range(6, 8), "test": range(8, 10)}


@dataclass(frozen=True)
class Example:
    """One problem.

    Attributes:
        id: the same for the same problem wherever it turns up; unique in a task.
        messages: the prompt, as chat messages (``role``, ``content``).
        answer: the right answer.
        metadata: what else the verifier needs, as JSON types.
    """

    id: str
    messages: list[dict[str, str]]
    answer: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a verifier found in one completion.

    Attributes:
        correct: whether it reaches the right answer; ``None`` if the verifier itself failed, which says nothing about
            the completion.
        answer: the final answer in a form that is equal for equal answers, for majority votes; ``None`` if there is
            none, or if the task's completions cannot be voted on (programs, free text).
        details: what else was measured, as JSON types.
        error: ``"Type: message"`` of what the verifier raised, else ``None``.
    """

    correct: bool | None
    answer: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


class Task(ABC):
    """Prompts with a verifier.

    Attributes:
        name: what users call it, and what results are filed under.
        concurrent: whether :meth:`judge` may run in several threads at a time.
        origin: of a task of one's own: hash of its file, and the settings that it was made with.
    """

    name: str
    concurrent: ClassVar[bool] = False
    origin: Mapping[str, Any] | None = None

    @abstractmethod
    def examples(self, split: str, count: int | None, seed: int) -> list[Example]:
        """Returns ``count`` different problems of one split, or all of it.

        No problem is in two splits, whatever the seeds: see :func:`split_of`.

        Args:
            split: ``"train"``, ``"validation"`` or ``"test"``.
            count: how many, at least 1; ``None`` for all, in the order of their source.
            seed: which ones; the same seed gives the same problems.

        Raises:
            DataError: unknown split, the split has fewer problems, or all of an endless stream were asked for.
        """

    @abstractmethod
    def verify(self, example: Example, completion: str) -> bool:
        """Tells whether a completion reaches the example's answer."""

    def final_answer(self, example: Example, completion: str) -> str | None:
        """The completion's final answer, equal for equal answers; ``None`` if there is none to vote on."""
        return extract_answer(completion) or None

    def check(self, example: Example, completion: str) -> Verdict:
        """Verifies and takes out the final answer; tasks that measure more override this. May raise."""
        return Verdict(self.verify(example, completion), self.final_answer(example, completion))

    def judge(self, example: Example, completion: str) -> Verdict:
        """:meth:`check`, and never an exception: a verifier that fails on one sample must not end a run of thousands.

        The sample then counts as an error (``correct`` is ``None``), not as wrong.
        """
        try:
            verdict = self.check(example, completion)
        except Exception as error:
            # What a program raised may hold half of a surrogate pair, which no file takes.
            message = f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode()
            return Verdict(None, error=message)
        if verdict.correct is None and verdict.error is None:
            return replace(verdict, error=f"the verifier of task '{self.name}' returned None; True or False is needed")
        return verdict

    def fingerprint(self) -> dict[str, Any]:
        """What results depend on, as JSON types: runs with different fingerprints are not continued or compared."""
        return {"task": self.name}

    def identity(self) -> dict[str, Any]:
        """:meth:`fingerprint`; for a task of one's own whose file defines none, also :attr:`origin`."""
        definer = next(kind for kind in type(self).__mro__ if "fingerprint" in vars(kind))
        says_itself = definer.__module__ == type(self).__module__
        return self.fingerprint() | ({} if says_itself or self.origin is None else dict(self.origin))


def split_of(prompt: str) -> str:
    """The split a problem belongs to: a hash of its text decides (6 tenths train, 2 validation, 2 test).

    So the splits are disjoint by construction: a problem that turns up twice, in one stream of problems or in streams
    of different seeds, lands in the same split both times.
    """
    tenth = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") % 10
    return next(split for split, tenths in _SPLITS.items() if tenth in tenths)


def prompt_id(prompt: str) -> str:
    """A short name for a problem, from its text."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def take(
    candidates: Iterable[tuple[str, Example]],
    split: str,
    count: int | None,
    task: str,
    own_split: Callable[[Example], str | None] = lambda _: None,
) -> list[Example]:
    """Picks the first ``count`` different problems of a split.

    Args:
        candidates: ``(problem text, example)``; text that was seen before is skipped.
        split: the split to keep.
        count: how many; ``None`` for all, if there is at least one.
        task: the task's name, for errors.
        own_split: the split that an example names itself, or ``None`` for :func:`split_of` its text.

    Raises:
        DataError: unknown split, ``count`` below 1, or the candidates run out.
    """
    if split not in _SPLITS:
        raise DataError(f"task '{task}': unknown split '{split}'.{did_you_mean(split, _SPLITS)}")
    if count is not None and count < 1:
        raise DataError(f"task '{task}': at least 1 problem is needed, {count} were asked for.")
    chosen: dict[str, Example] = {}
    for prompt, example in candidates:
        if prompt not in chosen and (own_split(example) or split_of(prompt)) == split:
            chosen[prompt] = example
            if len(chosen) == count:
                return list(chosen.values())
    if count is None and chosen:
        return list(chosen.values())
    raise DataError(
        f"task '{task}': {'any' if count is None else count} different {split} problems were asked for, and only "
        f"{len(chosen)} were found. Ask for fewer, or use a task with more problems."
    )
