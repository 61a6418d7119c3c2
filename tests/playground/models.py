"""Models for the playground's tests: a tiny one that decodes, and one that writes what a test wants."""

from __future__ import annotations

import time
from collections.abc import Sequence

from autodeco.errors import ConfigError
from autodeco.playground.model import LocalModel
from autodeco.trace.stream import StreamedToken
from tests.conftest import byte_tokenizer, tiny_autodeco
from tests.trace.traces import token, trace


def tiny_model() -> LocalModel:
    """Tiny, with random heads; never ends an answer by itself."""
    tokenizer = byte_tokenizer()
    model = tiny_autodeco(vocab_size=len(tokenizer), max_position_embeddings=2048, eos_token_id=None)
    model.generation_config.eos_token_id = None
    return LocalModel(model, tokenizer, "tiny")


class Scripted:
    """Writes the same words to every prompt, at any pace."""

    has_heads = can_steer = True
    notice = ""
    strategies = ("default",)

    def __init__(self, words: Sequence[str], *, name: str = "scripted", pause: float = 0, fails_after: int = 10**9):
        self.words, self.name, self.pause, self.fails_after = words, name, pause, fails_after

    def fit(self, request):
        return request

    def stream(self, request, way, on_token):
        for index, word in enumerate(self.words):
            time.sleep(self.pause)
            if index >= self.fails_after:
                raise ConfigError("The model went away.")
            on_token(StreamedToken(index, word, (index % 10) / 5, 0.5))

    def trace(self, request, way, tokens):
        made = [token(one.text, token_id=one.token_id, temperature=one.temperature) for one in tokens]
        return trace(made, model=self.name, prompt=request.prompt, strategy=way.name)

    def script(self, request):
        return "print(model.generate)\n"
