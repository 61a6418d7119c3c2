"""Problems that reasoning-gym makes without end, with its own scoring."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from autodeco.errors import ConfigError, DataError, MissingDependencyError, did_you_mean
from autodeco.tasks.answers import extract_answer, extract_number
from autodeco.tasks.base import Example, Task, prompt_id, take

# Some families have few different problems (one-digit sums have a few hundred), so a stream is not read for ever.
_MOST_DRAWS_PER_EXAMPLE = 200


class ReasoningGymTask(Task):
    """One reasoning-gym family with one group of settings.

    Args:
        family: reasoning-gym's name of it, as in ``reasoning_gym.create_dataset``.
        name: what this task is called; the family's name if not given.
        answer_kind: whether a completion's final number or its final text is scored.
        prompt: the user's message, ``{question}`` standing for reasoning-gym's text.
        system: the system message, if any.
        shots: worked examples ``(question, completion)`` shown before the problem as earlier turns of the chat.
        settings: the family's own settings (``min_terms=2``, ...).

    Raises:
        MissingDependencyError: reasoning-gym is not installed.
        DataError: unknown family.
        ConfigError: the family does not take these settings.
    """

    def __init__(
        self,
        family: str,
        *,
        name: str | None = None,
        answer_kind: Literal["number", "text"] = "number",
        prompt: str = "{question}",
        system: str | None = None,
        shots: Sequence[tuple[str, str]] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name or family
        self.family = family
        self.answer_kind = answer_kind
        self.prompt = prompt
        self.system = system
        self.shots = tuple(shots)
        self.settings = dict(settings or {})
        self._scorer = self._dataset(size=1, seed=0)
        self._shot_questions = {question for question, _ in self.shots}

    def examples(self, split: str, count: int | None, seed: int) -> list[Example]:
        """Draws different problems of one split; see :meth:`Task.examples`."""
        if count is None:
            raise DataError(
                f"task '{self.name}': reasoning-gym makes problems without end, so there is no such thing as "
                f"all of them. Say how many."
            )
        return take(self._stream(seed, count), split, count, self.name)

    def verify(self, example: Example, completion: str) -> bool:
        """Scores the completion's final answer with reasoning-gym's own ``score_answer``; only a full score counts."""
        answer = self.final_answer(example, completion)
        if not answer:
            return False
        entry = {"question": example.metadata["question"], "answer": example.answer, "metadata": example.metadata}
        return float(self._scorer.score_answer(answer, entry)) > 0.99

    def final_answer(self, example: Example, completion: str) -> str | None:
        """The completion's final number, or its final text, as :attr:`answer_kind` says."""
        answer = extract_number(completion) if self.answer_kind == "number" else extract_answer(completion)
        return answer or None

    def fingerprint(self) -> dict[str, Any]:
        """Family, settings and wording: all that decides which prompts there are and what counts as right."""
        names = ("family", "answer_kind", "prompt", "system", "settings")
        return {"task": self.name, **{name: getattr(self, name) for name in names}, "shots": [*map(list, self.shots)]}

    def _stream(self, seed: int, count: int) -> Iterator[tuple[str, Example]]:
        # reasoning-gym seeds item i with seed + i, so neighbouring seeds would give the same problems shifted by one.
        spread = int.from_bytes(hashlib.sha256(f"{self.family}:{seed}".encode()).digest()[:4], "big") >> 2
        size = count * _MOST_DRAWS_PER_EXAMPLE
        dataset = self._dataset(size=size, seed=spread)
        for index in range(size):
            entry = dataset[index]
            question = entry["question"].strip()
            if question not in self._shot_questions:
                yield question, self._example(question, entry)

    def _example(self, question: str, entry: Mapping[str, Any]) -> Example:
        turns = [(self.prompt.format(question=shown), completion) for shown, completion in self.shots]
        messages = [{"role": "system", "content": self.system}] if self.system is not None else []
        for shown, completion in turns:
            messages += [{"role": "user", "content": shown}, {"role": "assistant", "content": completion}]
        messages.append({"role": "user", "content": self.prompt.format(question=question)})
        metadata = {**entry["metadata"], "question": entry["question"]}
        return Example(f"{self.name}-{prompt_id(question)}", messages, str(entry["answer"]), metadata)

    def _dataset(self, size: int, seed: int) -> Any:
        families = family_names()
        if self.family not in families:
            raise DataError(f"reasoning-gym has no family '{self.family}'.{did_you_mean(self.family, families)}")
        from reasoning_gym import create_dataset

        try:
            return create_dataset(self.family, size=size, seed=seed, **self.settings)
        except (TypeError, AssertionError, ValueError) as error:
            raise ConfigError(f"reasoning-gym family '{self.family}' refuses {self.settings}: {error}") from error


def family_names() -> list[str]:
    """Returns the families that the installed reasoning-gym has.

    Raises:
        MissingDependencyError: reasoning-gym is not installed.
    """
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise MissingDependencyError(
            "this task's problems are made by reasoning-gym, which is not installed. Install it with: "
            'pip install "autodeco[demo]"'
        ) from error
    return sorted(DATASETS)
