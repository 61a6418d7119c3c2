"""Open prompts: questions that many answers suit, for what is not measured by right and wrong (decoding commands)."""

from __future__ import annotations

import random
from importlib import resources
from typing import Any

import yaml

from autodeco.tasks.base import Example, Task, prompt_id, take

_FILE = "open_prompts.yaml"


class OpenPrompts(Task):
    """Everyday prompts without one right answer, written for this project; their splits share no topic.

    Every completion with any text in it counts as right: there is nothing to verify, and all are kept.
    """

    name = "open-prompts"

    def examples(self, split: str, count: int | None, seed: int) -> list[Example]:
        """Picks prompts of one split, in an order that the seed decides; see :meth:`Task.examples`."""
        prompts: dict[str, list[str]] = yaml.safe_load(
            (resources.files("autodeco.tasks") / _FILE).read_text(encoding="utf-8")
        )
        examples = [
            Example(f"open-{prompt_id(prompt)}", [{"role": "user", "content": prompt}], "", {"split": own})
            for own, texts in prompts.items()
            for prompt in texts
        ]
        if count is not None:
            random.Random(seed).shuffle(examples)
        candidates = ((example.id, example) for example in examples)
        return take(candidates, split, count, self.name, own_split=_own_split)

    def verify(self, example: Example, completion: str) -> bool:
        """Whether there is any text."""
        return bool(completion.strip())

    def final_answer(self, example: Example, completion: str) -> str | None:
        """None: free text cannot be voted on."""
        return None


def _own_split(example: Example) -> str | None:
    split: Any = example.metadata["split"]
    return str(split)
