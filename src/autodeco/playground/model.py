"""A model on this machine that the playground decodes with. Several people's requests take turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from jinja2 import TemplateError

from autodeco.checkpoint import inspect
from autodeco.errors import ConfigError, DataError
from autodeco.playground import export
from autodeco.playground.request import Request, Way
from autodeco.rollouts.sampler import encode
from autodeco.serving.load import context_length, load_model_and_tokenizer, load_tokenizer
from autodeco.steering import steering
from autodeco.strategies import get_strategy
from autodeco.trace.format import Trace
from autodeco.trace.make import trace_text
from autodeco.trace.stream import StreamedToken, stream_tokens

_WITH_HEADS = """\
from autodeco.serving.load import load_model_and_tokenizer

model, tokenizer = load_model_and_tokenizer({path!r}, {base_model!r}, dtype={dtype!r})
"""
_WITHOUT_HEADS = """\
from autodeco import AutoDecoForCausalLM
from autodeco.serving.load import load_tokenizer

model = AutoDecoForCausalLM.from_base({path!r}, dtype={dtype!r})
tokenizer = load_tokenizer({path!r})
"""
_NO_HEADS = (
    "This model has no heads, so there is nothing learned to look at: it decodes with the strategies below. "
    "'autodeco train' makes heads for it."
)


class LocalModel:
    """Answers requests, one at a time.

    Args:
        model: an AutoDeco model.
        tokenizer: its tokenizer.
        name: what it is called.
        has_heads: whether its heads are trained ones. Without them only strategies that need none are carried out.
        code: Python that loads model and tokenizer, for those who want to draw the same again.
    """

    strategies: Sequence[str] = ("default", "greedy", "static:temperature=0.6,top_p=0.95", "min-p:min_p=0.1", "p-less")

    def __init__(self, model: Any, tokenizer: Any, name: str, *, has_heads: bool = True, code: str = "") -> None:
        self.name = name
        self.has_heads = self.can_steer = has_heads
        self.notice = "" if has_heads else _NO_HEADS
        self._code = code
        self._model, self._tokenizer = model, tokenizer
        self._turn = threading.Lock()  # strategy and seed are the model's and PyTorch's, not a request's

    @classmethod
    def load(cls, path: str, base_model: str | None = None, *, dtype: str = "auto") -> LocalModel:
        """Loads a model with heads, or a plain one to look at without.

        Args:
            path: heads, a merged or a released checkpoint, or a plain model; folder or hub id.
            base_model: base to use instead of the recorded one.
            dtype: of the base model.

        Raises:
            AutoDecoError: as :meth:`AutoDecoForCausalLM.from_pretrained` does.
        """
        from autodeco.bundled import resolve_model
        from autodeco.modeling import AutoDecoForCausalLM

        if inspect(resolve_model(path)).layout != "base":
            loaded = load_model_and_tokenizer(path, base_model, dtype=dtype)
            return cls(*loaded, path, code=_WITH_HEADS.format(path=path, base_model=base_model, dtype=dtype))
        model = AutoDecoForCausalLM.from_base(path, dtype=dtype)
        code = _WITHOUT_HEADS.format(path=path, dtype=dtype)
        return cls(model, load_tokenizer(path), path, has_heads=False, code=code)

    def fit(self, request: Request) -> Request:
        """The request as it can be answered: no longer than the model's context.

        Raises:
            DataError: the prompt does not fit the context, or the chat template refuses it.
            ConfigError: the tokenizer has no chat template, or a way needs heads that are not there.
        """
        for way in request.ways:
            if get_strategy(way.strategy).needs_heads and not self.has_heads:
                raise ConfigError(
                    f"'{self.name}' has no heads, which '{way.strategy}' needs. Choose strategies that need none, such "
                    f"as default, or open a model with heads."
                )
        try:
            count = len(self.prompt_ids(request))
        except TemplateError as error:
            raise DataError(
                f"The model's chat template refuses this conversation ({error}). Some know no system message: leave it "
                f"empty."
            ) from None
        context = context_length(self._model)
        if context is None:
            return request
        if count >= context:
            raise DataError(
                f"The prompt is {count:,} tokens, and this model reads at most {context:,}, its answer included. "
                f"Shorten the prompt or the system message."
            )
        return replace(request, max_new_tokens=min(request.max_new_tokens, context - count))

    def prompt_ids(self, request: Request) -> list[int]:
        """Token ids of the request's conversation."""
        return encode(self._tokenizer, request.messages)

    def stream(self, request: Request, way: Way, on_token: Callable[[StreamedToken], None]) -> None:
        """Generates one answer; what ``on_token`` raises ends it.

        Args:
            request: as :meth:`fit` gave it.
            way: how to decode.
            on_token: called with each token.

        Raises:
            ConfigError: the device's memory does not suffice, or ``decoding`` is out of bounds.
        """
        ids = self.prompt_ids(request)
        longest, seed = request.max_new_tokens, request.seed
        try:
            with self._turn, self._decoding(way):
                stream_tokens(self._model, self._tokenizer, ids, on_token, max_new_tokens=longest, seed=seed)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"The device's memory does not suffice for {len(ids):,} tokens and an answer ({error!s:.200}). Shorten "
                f"the prompt."
            ) from None

    def trace(self, request: Request, way: Way, tokens: Sequence[StreamedToken]) -> Trace:
        """What happened at each token of an answer."""
        with self._turn, self._decoding(way):
            return trace_text(
                self._model,
                self._tokenizer,
                self.prompt_ids(request),
                [token.token_id for token in tokens],
                name=self.name,
                settings={"seed": request.seed},
            )

    def script(self, request: Request) -> str:
        """Python that prints the answers to a request, in its order."""
        return export.script(self._code, request)

    def _decoding(self, way: Way) -> AbstractContextManager[None]:
        if way.decoding is not None:
            return steering(self._model, way.decoding)
        strategy: AbstractContextManager[None] = self._model.decode_with(way.strategy)
        return strategy
