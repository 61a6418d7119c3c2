"""``autodeco serve`` without vLLM: Transformers' own OpenAI-compatible server around a model that decodes itself.

The server, its routes and its generation are Transformers' (``transformers serve``). Added here: the model, which that
command could not load, an API key, metrics, and clean answers to requests that are none. One request runs at a time.
"""

from __future__ import annotations

import argparse
import importlib.util
import secrets
import signal
from typing import Any, NoReturn

from autodeco.errors import ConfigError, MissingDependencyError

_NEEDED = ("fastapi", "uvicorn", "openai", "prometheus_fastapi_instrumentator")
_DRAIN_SECONDS = 20
# Other routes of Transformers' server load or unload models, for anyone who asks.
_ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/health")


def check_installed() -> None:
    """Checks that what Transformers' server needs is there.

    Raises:
        MissingDependencyError: it is not.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"autodeco serve needs an engine. Transformers' own server lacks {', '.join(missing)}: pip install "
            f"'autodeco[serve]'. For many users at a time, vLLM: pip install 'autodeco[vllm]' (GPU), or see "
            f"docs/serving.md for CPUs."
        )


def flags(extra: list[str]) -> argparse.Namespace:
    """Reads the flags that both engines have; vLLM has more.

    Raises:
        ConfigError: a flag that this server does not have.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--ssl-certfile")
    parser.add_argument("--ssl-keyfile")
    parser.add_argument("--seed", type=int)
    found, unknown = parser.parse_known_args(extra)
    if unknown:
        raise ConfigError(
            f"Transformers' server has no {unknown[0]}; it has --dtype, --seed, --ssl-certfile and --ssl-keyfile. "
            f"Other flags are vLLM's, which is not the engine here (see docs/serving.md)."
        )
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message[0].upper()}{message[1:]}.")


def serve(
    model: Any, tokenizer: Any, name: str, *, host: str, port: int, api_key: str | None, options: argparse.Namespace
) -> int:
    """Runs the server until SIGTERM or Ctrl-C; requests that run then have 20 seconds to end.

    Args:
        model: an AutoDeco model.
        tokenizer: its tokenizer.
        name: under which clients ask for it.
        host: address to listen on.
        port: port to listen on.
        api_key: what clients have to send as a bearer token, if anything.
        options: as :func:`flags` gives them.

    Returns:
        The exit status: 0 if it was asked to stop.
    """
    server = _server(model, tokenizer, name, host, port, options)
    server.config.app = _guarded(server.config.app, api_key)
    server.config.timeout_graceful_shutdown = _DRAIN_SECONDS
    server.config.ssl_certfile, server.config.ssl_keyfile = options.ssl_certfile, options.ssl_keyfile
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises the signal again after its own shutdown
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0 if server.started else 1


def _server(model: Any, tokenizer: Any, name: str, host: str, port: int, options: argparse.Namespace) -> Any:
    """Transformers' server, built but not started, that holds the model."""
    from transformers.cli.serve import Serve
    from transformers.cli.serving.model_manager import TimedModel

    class AutoDecoServe(Serve):  # type: ignore[misc]
        def start_server(self) -> None:
            """Not yet: it would answer before it has a model."""

    built = AutoDecoServe(host=host, port=port, model_timeout=-1, default_seed=options.seed, non_blocking=True)
    manager = built._model_manager
    manager.force_model = name
    manager.loaded_models[manager.process_model_name(name)] = TimedModel(model, -1, tokenizer)
    app = built.server.config.app
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) in _ROUTES]

    @app.get("/v1/models")  # type: ignore[untyped-decorator]
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "autodeco"}]}

    return built.server


def _guarded(app: Any, api_key: str | None) -> Any:
    """Adds metrics, errors of status 400 for bodies that make no sense, and the API key."""
    from fastapi import Request
    from fastapi.responses import JSONResponse
    from prometheus_fastapi_instrumentator import Instrumentator

    async def bad_request(_: Request, error: Exception) -> JSONResponse:
        message = f"{type(error).__name__}: {error}"
        return JSONResponse({"error": {"message": message, "type": "BadRequestError", "code": 400}}, 400)

    for kind in (ValueError, TypeError, KeyError):  # Transformers converts what a body holds without looking at it
        app.add_exception_handler(kind, bad_request)

    if api_key is not None:
        wanted = f"Bearer {api_key}".encode()

        @app.middleware("http")  # type: ignore[untyped-decorator]
        async def check_key(request: Request, call_next: Any) -> Any:
            given = request.headers.get("authorization", "").encode()
            if request.url.path.startswith("/v1/") and not secrets.compare_digest(given, wanted):
                return JSONResponse({"error": "Unauthorized"}, 401)
            return await call_next(request)

    Instrumentator().instrument(app).expose(app, include_in_schema=False)
    return app
