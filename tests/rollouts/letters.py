"""A task for tests: right if the completion holds an "a"."""

from autodeco.tasks import Example, Task
from autodeco.tasks.base import take


class Letters(Task):
    name = "letters"

    def examples(self, split, count, seed):
        texts = [f"Say {number}" for number in range(seed, seed + 50)]
        pairs = ((text, Example(text, [{"role": "user", "content": text}], "a")) for text in texts)
        return take(pairs, split, count, self.name)

    def verify(self, example, completion):
        return example.answer in completion
