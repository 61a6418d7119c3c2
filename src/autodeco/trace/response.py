"""Token ids out of a server's answer, as an OpenAI-compatible server writes it: what a trace of it is made from.

Knows nothing of models. Only the ids count: the text, encoded again, can have other token boundaries.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from autodeco.errors import DataError

_ASK = 'ask the server again with "return_token_ids": true in the request (vLLM has it; see docs/trace.md)'


class ServerAnswer(NamedTuple):
    """One completion of a server.

    Attributes:
        prompt_ids: token ids of the prompt, chat template applied.
        completion_ids: token ids of the answer, an end token included if there was one.
        model: what the server calls its model.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    model: str | None


def read_response(path: str | Path, choice: int = 0) -> ServerAnswer:
    """Reads the JSON body of ``/v1/chat/completions`` or ``/v1/completions``.

    Args:
        path: file with the body, of an answer that was not streamed.
        choice: which completion, from 0.

    Raises:
        DataError: the file is missing, is no such answer, is the server's error, has no such choice, or holds no
            token ids.
    """
    body = _body(Path(path))
    choices = body["choices"]
    if not 0 <= choice < len(choices):
        raise DataError(f"{path}: has {len(choices)} choices, and number {choice} was asked for (the first is 0).")
    found = choices[choice]
    # The prompt's stand in the choice or beside it, by endpoint.
    prompt_ids = _ids(path, "prompt_token_ids", {**body, **found})
    return ServerAnswer(prompt_ids, _ids(path, "token_ids", found), body.get("model"))


def _ids(path: str | Path, name: str, where: dict[str, Any]) -> list[int]:
    ids = where.get(name)
    if ids is None:
        raise DataError(f"{path}: the answer holds no '{name}', and its text does not say which tokens it was: {_ASK}.")
    if not isinstance(ids, list) or not all(type(token_id) is int for token_id in ids):
        raise DataError(f"{path}: '{name}' must be a list of token ids, found {ids!r:.80}.")
    return ids


def _body(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except ValueError as error:
        raise DataError(
            f"{path}: not the JSON body of one answer ({error!s:.100}). A streamed answer cannot be read: ask for it "
            f'with "stream": false.'
        ) from None
    body: dict[str, Any] = loaded if isinstance(loaded, dict) else {}
    if "error" in body:
        raise DataError(f"{path}: the server answered with an error: {body['error']!s:.300}")
    choices = body.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise DataError(
            f"{path}: not an answer of /v1/chat/completions or /v1/completions: it has no list of 'choices'."
        )
    return body
