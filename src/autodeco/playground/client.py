"""Talks HTTP with a server of an OpenAI-compatible API: its models, streamed chats, and ``autodeco serve``'s traces.

Knows nothing of strategies. Whatever goes wrong is a :class:`ServerError` that says what to do; a key is in none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from autodeco.errors import ConfigError, ServerError, did_you_mean

# Between two parts of an answer: a busy server lets a request wait, and reads long prompts.
_SECONDS_OF_SILENCE = 300
_SECONDS_TO_CONNECT = 10


class Client:
    """Of one server.

    Args:
        url: of the server, with or without ``/v1``.
        api_key: sent as a bearer token, if given.

    Raises:
        ConfigError: the URL is none, or the key cannot be sent.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.has_key = bool(api_key)
        try:
            parsed = httpx.URL(self.url)
        except (httpx.InvalidURL, TypeError):
            parsed = httpx.URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigError(f"'{url}' is no URL of a server: http://127.0.0.1:8000, say, is one.")
        if parsed.userinfo:
            raise ConfigError("the URL holds a password, which would be shown: give an --api-key in its place.")
        if api_key and not api_key.isprintable():
            raise ConfigError("the API key cannot be sent: it holds a line's end, or another sign that is no letter.")
        headers = {b"Authorization": f"Bearer {api_key}".encode()} if api_key else None
        timeout = httpx.Timeout(_SECONDS_OF_SILENCE, connect=_SECONDS_TO_CONNECT)
        self._http = httpx.Client(base_url=f"{self.url}/v1/", headers=headers, timeout=timeout)

    def model(self, wanted: str | None) -> str:
        """The name of a model that the server has: the one that is wanted, or its first.

        Raises:
            ConfigError: it is not there.
            ServerError: as in :meth:`stream`.
        """
        with self._failures_named():
            answer = self._http.get("models")
        listed = self._json(answer).get("data")
        listed = listed if isinstance(listed, list) else []
        names = [str(one["id"]) for one in listed if isinstance(one, dict) and one.get("id")]
        if not names:
            raise ServerError(f"{self.url} is no server of an OpenAI-compatible API: /v1/models lists no model.")
        if wanted is not None and wanted not in names:
            raise ConfigError(f"the server has no model '{wanted}'.{did_you_mean(wanted, names)}")
        return wanted or names[0]

    def has_traces(self) -> bool:
        """Whether it is ``autodeco serve`` on vLLM, which takes options of single requests and keeps traces."""
        with self._failures_named():
            answer = self._http.get("autodeco/traces/of-nobody")
        return answer.status_code == 404 and "there is no trace" in answer.text

    def trace(self, name: str) -> list[dict[str, Any]]:
        """What the server kept of an answer's tokens, which it forgets thereby.

        Raises:
            ServerError: as in :meth:`stream`.
        """
        with self._failures_named():
            answer = self._http.get(f"autodeco/traces/{name}")
        tokens = self._json(answer).get("tokens")
        if not isinstance(tokens, list):
            raise ServerError(f"the server's trace has no list of tokens, but {tokens!r:.100}.")
        return tokens

    def stream(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Asks for a chat completion; yields the choice in each part of it. Closed early, it ends the request.

        Raises:
            ServerError: the server cannot be reached, refuses the request, fails in the midst of it, or goes away.
        """
        ended = False
        with (
            self._failures_named(),
            self._http.stream("POST", "chat/completions", json={**body, "stream": True}) as answer,
        ):
            if answer.status_code != 200:
                answer.read()
                raise self._refusal(answer)
            for line in answer.iter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                for choice in self._choices(data):
                    ended = ended or bool(choice.get("finish_reason"))
                    yield choice
        if not ended:
            raise ServerError(f"{self.url} ended the answer before its end. Is the server still running?")

    def _choices(self, data: str) -> list[dict[str, Any]]:
        try:
            part = json.loads(data)
        except ValueError:
            part = None
        if not isinstance(part, dict) or "error" in part:
            raise ServerError(f"the server failed in the midst of the answer: {_reason(part, data)}")
        choices: list[dict[str, Any]] = part.get("choices") or []
        return choices

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code != 200:
            raise self._refusal(answer)
        try:
            loaded = answer.json()
        except ValueError:
            loaded = None
        if not isinstance(loaded, dict):
            raise ServerError(f"{self.url} is no server of an OpenAI-compatible API: it answers {answer.text!r:.100}.")
        return loaded

    def _refusal(self, answer: httpx.Response) -> ServerError:
        if answer.status_code in (401, 403):
            done = "refuses the API key" if self.has_key else "wants an API key"
            return ServerError(
                f"{self.url} {done} (status {answer.status_code}): give the server's own with --api-key."
            )
        try:
            reason = _reason(answer.json(), answer.text)
        except ValueError:
            reason = answer.text[:300]
        return ServerError(f"{answer.request.url} answers with status {answer.status_code}: {reason or 'no reason'}")

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        """Says of a connection that fails what it was to, and what to do."""
        try:
            yield
        except httpx.ConnectError as error:
            raise ServerError(
                f"nothing answers at {self.url} ({error!s:.200}). Start one with 'autodeco serve', or mend the URL."
            ) from None
        except httpx.TimeoutException as error:
            raise ServerError(f"{self.url} is silent ({type(error).__name__}). Is it busy, or hung?") from None
        except httpx.HTTPError as error:
            raise ServerError(f"{self.url} went away ({error!s:.200}). Is the server still running?") from None


def _reason(body: Any, text: str) -> str:
    """What a server says in its own way of an error; the text where it does not."""
    found = body.get("error", body.get("detail")) if isinstance(body, dict) else None
    if isinstance(found, dict):
        found = found.get("message")
    return str(found or text)[:300]
