"""A running server that the playground decodes with, over its OpenAI-compatible API. Loads no model."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from autodeco.errors import ConfigError, ServerError
from autodeco.playground import export
from autodeco.playground.client import Client
from autodeco.playground.request import Request, Way
from autodeco.strategies import AutoDeco, Default, Greedy, Static, get_strategy
from autodeco.trace.format import Header, Trace, TracedToken

_WITH_TRACES = (
    "Answers come from a server. It says T, P and entropies when an answer has ended, so the text is tinted then; "
    "ranks, probabilities and alternatives need the model on this machine, and so does decoding without words."
)
_TEXT_ALONE = (
    "Answers come from a server that gives their text alone: no T and P, and beside its own decoding greedy at most. "
    "autodeco serve on vLLM gives more."
)


class ServedToken(NamedTuple):
    """A token from a server, or a piece of text where the server does not say which tokens it was.

    Attributes:
        text: what it adds to the text.
        token_id: its id, if the server says it.
        trace: name under which the server keeps T and P of the answer's tokens, if it does.
        temperature: not known while text comes.
        top_p: not known while text comes.
    """

    text: str
    token_id: int | None = None
    trace: str | None = None
    temperature: None = None
    top_p: None = None


class ServerModel:
    """Answers requests by asking a server.

    Args:
        client: of the server.
        name: of the model there.
        has_traces: whether the server takes options of single requests and keeps traces, as ``autodeco serve`` on
            vLLM does.
    """

    has_heads = True  # what the server does when it is asked for nothing in particular
    can_steer = False

    def __init__(self, client: Client, name: str, *, has_traces: bool) -> None:
        self.name = name
        self.notice = _WITH_TRACES if has_traces else _TEXT_ALONE
        self.strategies: Sequence[str] = ["greedy"]
        if has_traces:
            self.strategies = ["default", "greedy", "static:temperature=0.6,top_p=0.95", "min-p:min_p=0.1"]
        self._client, self._has_traces = client, has_traces

    @classmethod
    def connect(cls, url: str, model: str | None = None, *, api_key: str | None = None) -> ServerModel:
        """Finds out what a server offers.

        Args:
            url: of the server, with or without ``/v1``.
            model: name of a model there; ``None`` takes the first that it lists.
            api_key: what it wants as a bearer token, if anything.

        Raises:
            ConfigError: the URL is none, or the server has no such model.
            ServerError: nothing answers there, it refuses the key, or it is no such server.
        """
        client = Client(url, api_key)
        name = client.model(model)
        return cls(client, name, has_traces=client.has_traces())

    def fit(self, request: Request) -> Request:
        """The request as it is: how long it may be the server says when it is asked.

        Raises:
            ConfigError: the server cannot decode in one of the ways.
        """
        for way in request.ways:
            self._options(way)
        return request

    def stream(self, request: Request, way: Way, on_token: Callable[[ServedToken], None]) -> None:
        """Asks for one answer; what ``on_token`` raises ends it, on the server, too.

        Raises:
            ServerError: the server refuses the request, fails, or goes away.
        """
        body = self.body(request, way)
        trace = None
        if self._has_traces:
            trace = f"playground-{uuid.uuid4().hex}"
            body["vllm_xargs"] = {**body.get("vllm_xargs", {}), "autodeco_trace": trace}
            # One log-probability a token says how a piece of text is divided into its tokens.
            body |= {"return_token_ids": True, "logprobs": True}
        for choice in self._client.stream(body):
            for token in _tokens(choice):
                on_token(token._replace(trace=trace))

    def trace(self, request: Request, way: Way, tokens: Sequence[ServedToken]) -> Trace | None:
        """T, P and entropies of an answer's tokens, as the server kept them; ``None`` where it keeps none.

        Raises:
            ServerError: the server went away, or its trace is not of these tokens.
        """
        if tokens[0].trace is None:
            return None
        values = self._client.trace(tokens[0].trace)
        if len(values) < len(tokens):
            raise ServerError(f"the server gave {len(tokens)} tokens, and its trace of them has {len(values)}.")
        measured = _measured(way)
        try:
            traced = tuple(
                TracedToken.model_validate({"token_id": token.token_id, "text": token.text, **measured(value)})
                for token, value in zip(tokens, values, strict=False)  # it may have drawn more when it was stopped
            )
        except (ValidationError, KeyError, TypeError) as error:
            raise ServerError(f"the server's trace cannot be read ({error!s:.200}).") from None
        prompt = "\n\n".join(f"{message['role']}: {message['content']}" for message in request.messages)
        header = Header(model=self.name, prompt=prompt, strategy=way.name, settings={"seed": request.seed})
        return Trace(header=header, tokens=traced)

    def script(self, request: Request) -> str:
        """Python that asks the server for the same answers."""
        bodies = [self.body(request, way) for way in request.ways]
        return export.server_script(self._client.url, bodies, with_key=self._client.has_key)

    def body(self, request: Request, way: Way) -> dict[str, Any]:
        """What is asked of the server for one answer, without what is asked for the playground's own sake."""
        return {
            "model": self.name,
            "messages": [dict(message) for message in request.messages],
            "max_tokens": request.max_new_tokens,
            "seed": request.seed,
            **self._options(way),
        }

    def _options(self, way: Way) -> dict[str, Any]:
        strategy = get_strategy(way.strategy)
        if way.decoding is not None:
            raise ConfigError("a server cannot be asked for 'decoding'; open the heads on this machine for it.")
        if type(strategy) is AutoDeco:
            return {}
        if isinstance(strategy, Greedy):
            return {"temperature": 0}
        if self._has_traces and isinstance(strategy, Default):
            return {"temperature": 1.0, "top_p": 1.0, "vllm_xargs": {"autodeco": 0}}
        if self._has_traces and isinstance(strategy, Static):
            own = {"temperature": strategy.temperature, "top_p": strategy.top_p}
            return own | {"top_k": strategy.top_k, "min_p": strategy.min_p, "vllm_xargs": {"autodeco": 0}}
        able = "autodeco, default, greedy and static settings" if self._has_traces else "autodeco and greedy alone"
        raise ConfigError(
            f"this server cannot decode with '{way.strategy}': it can {able}. Open the model here for it."
        )


def _tokens(choice: dict[str, Any]) -> list[ServedToken]:
    """The tokens of one part of a stream; one without an id where the server does not say which they are."""
    delta = choice.get("delta") or {}
    text = "".join(delta.get(name) or "" for name in ("reasoning_content", "reasoning", "content"))
    ids = choice.get("token_ids")
    if not ids:
        return [ServedToken(text)] if text else []
    pieces = [one.get("token", "") for one in (choice.get("logprobs") or {}).get("content") or []]
    if len(pieces) != len(ids) or "".join(pieces) != text:
        # Characters over several tokens, special tokens: as in a trace, the last one has all of the text.
        pieces = [""] * (len(ids) - 1) + [text]
    return [ServedToken(piece, token_id) for piece, token_id in zip(pieces, ids, strict=True)]


def _measured(way: Way) -> Callable[[dict[str, float]], dict[str, float]]:
    """What a server's figures for a token are. It kept them before a request's own static setting was applied."""
    strategy = get_strategy(way.strategy)
    if isinstance(strategy, AutoDeco):
        return lambda value: {name: value[name] for name in ("temperature", "top_p", "entropy")}
    if isinstance(strategy, Default):
        own = {"temperature": 1.0, "top_p": 1.0}  # nothing is shaped: the same entropy before and after
        return lambda value: {**own, "base_entropy": value["entropy"], "entropy": value["entropy"]}
    if isinstance(strategy, Static):
        static = {"temperature": strategy.temperature, "top_p": strategy.top_p}
        return lambda value: {**static, "base_entropy": value["entropy"]}
    return lambda value: {"temperature": 1.0, "top_p": 1.0}  # greedy, as its strategy says
