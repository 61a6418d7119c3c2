"""Answers a request while somebody watches: tokens as they come, and traces at the end. Shows nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue

from autodeco.playground.answering import AnsweringModel, DrawnToken, OnToken
from autodeco.playground.request import Request, Way
from autodeco.trace.format import Trace

_SECONDS_BETWEEN_LOOKS = 0.2  # whether somebody wants to stop while no token comes


class _StopDrawing(Exception):  # noqa: N818 (no error: what ends a generation)
    """Raised between two tokens to end a generation that nobody waits for."""


@dataclass
class Answer:
    """An answer, or the beginning of one.

    Attributes:
        way: how it is decoded.
        tokens: so far.
        trace: of all tokens, once there are no more; ``None`` before, and of a server that gives none.
    """

    way: Way
    tokens: list[DrawnToken] = field(default_factory=list)
    trace: Trace | None = None


def draw(model: AnsweringModel, request: Request, stop: threading.Event) -> Iterator[list[Answer]]:
    """Answers in one way after the other; yields the same list after every few tokens, and once more with traces.

    Args:
        model: what answers.
        request: what is asked, as ``model.fit`` gave it.
        stop: set by whoever has seen enough; what there is by then is traced.

    Raises:
        AutoDecoError: the request cannot be answered.
    """
    answers = [Answer(way) for way in request.ways]
    for answer in answers:
        if stop.is_set():
            break
        for tokens in _streamed(partial(model.stream, request, answer.way), stop):
            answer.tokens.extend(tokens)
            yield answers
    for answer in answers:
        if answer.tokens:
            answer.trace = model.trace(request, answer.way, answer.tokens)
    yield answers


def _streamed(generate: Callable[[OnToken], None], stop: threading.Event) -> Iterator[Sequence[DrawnToken]]:
    """The tokens of a generation in a thread of its own; all that have come since the last were taken.

    The thread ends at its next token when ``stop`` is set, or when this iterator is closed.
    """
    arrived: SimpleQueue[DrawnToken | None] = SimpleQueue()
    failure: list[BaseException] = []
    closed = threading.Event()

    def take(token: DrawnToken) -> None:
        if stop.is_set() or closed.is_set():
            raise _StopDrawing
        arrived.put(token)

    def work() -> None:
        try:
            generate(take)
        except _StopDrawing:
            pass
        except BaseException as error:  # is raised where the tokens are read
            failure.append(error)
        finally:
            arrived.put(None)

    threading.Thread(target=work, daemon=True).start()
    try:
        more = True
        while more:
            try:
                tokens = [arrived.get(timeout=_SECONDS_BETWEEN_LOOKS)]
            except Empty:
                if stop.is_set():
                    break
                continue
            while not arrived.empty():
                tokens.append(arrived.get())
            more = tokens[-1] is not None
            yield [token for token in tokens if token is not None]
    finally:
        closed.set()
    if failure:
        raise failure[0]
