"""A user's own task: a JSONL file of ``prompt`` and ``answer``, checked by a named verifier."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

from autodeco.errors import DataError
from autodeco.files import read_jsonl
from autodeco.tasks.answers import final_answer, get_verifier
from autodeco.tasks.base import Example, Task, prompt_id, take


class JsonlTask(Task):
    """Problems from a file. Each line: ``{"prompt": "..." or [messages], "answer": "..." or number}``.

    Which split a line belongs to is decided by a hash of its prompt, as in every task, or by its own ``"split"`` if it
    has one ("train", "validation" or "test").

    Args:
        path: the file.
        verifier: how answers are compared: a name in :data:`autodeco.tasks.answers.VERIFIERS` (``"number"``,
            ``"exact"``, ``"choice"``, ``"math"``).
        name: what this task is called; the file's name without suffix if not given.

    Raises:
        DataError: the file or a line cannot be used, or the verifier is unknown.
    """

    def __init__(self, path: str | Path, verifier: str = "number", name: str | None = None) -> None:
        self.path = Path(path)
        self.name = name or self.path.stem
        self.verifier = verifier
        self._verify = get_verifier(verifier)
        self._examples = [self._example(row, f"{self.path}, line {number}") for number, row in read_jsonl(self.path)]
        if not self._examples:
            raise DataError(f"{self.path}: no problems; at least one line with 'prompt' and 'answer' is needed.")

    def examples(self, split: str, count: int | None, seed: int) -> list[Example]:
        """Picks different problems of one split in an order that the seed decides; see :meth:`Task.examples`."""
        order = list(self._examples)
        if count is not None:
            random.Random(seed).shuffle(order)
        candidates = ((_prompt_text(example.messages), example) for example in order)
        return take(candidates, split, count, self.name, own_split=lambda example: example.metadata.get("split"))

    def verify(self, example: Example, completion: str) -> bool:
        """Compares the completion's final answer with the example's."""
        return self._verify(example.answer, completion)

    def final_answer(self, example: Example, completion: str) -> str | None:
        """What the verifier compares."""
        return final_answer(self.verifier, completion)

    def fingerprint(self) -> dict[str, Any]:
        """The verifier and a hash of the file's content; where the file lies does not matter."""
        content = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return {"task": self.name, "verifier": self.verifier, "sha256": content}

    def _example(self, row: dict[str, Any], where: str) -> Example:
        for field in ("prompt", "answer"):
            if field not in row:
                raise DataError(f"{where}: '{field}' is missing (found: {', '.join(row) or 'nothing'}).")
        answer, split = row["answer"], row.get("split")
        if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
            raise DataError(f"{where}: 'answer' must be text or a number, found {answer!r}.")
        if split is not None and split not in ("train", "validation", "test"):
            raise DataError(f"{where}: 'split' must be train, validation or test, found {split!r}.")
        messages = _messages(row["prompt"], where)
        metadata = {} if split is None else {"split": split}
        return Example(f"{self.name}-{prompt_id(_prompt_text(messages))}", messages, str(answer), metadata)


def _messages(prompt: Any, where: str) -> list[dict[str, str]]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    usable = isinstance(messages, list) and all(
        isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        for message in messages
    )
    if not usable or not messages or not messages[-1]["content"].strip():
        raise DataError(
            f"{where}: 'prompt' must be text, or messages with 'role' and 'content', found {prompt!r:.200}."
        )
    return messages


def _prompt_text(messages: list[dict[str, str]]) -> str:
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
