"""``GET /v1/autodeco/traces/NAME``: T, P and entropy at each token of a request sent with ``autodeco_trace: NAME``.

An endpoint plug-in of vLLM's server. It lies below ``/v1``, so the server's API key guards it.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request

from autodeco.generation import TRACED
from autodeco.serving.vllm.requests import WorkerExtension


class Traces:
    """What vLLM's server calls when it starts."""

    name = "autodeco"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Adds the route."""
        router = APIRouter()

        @router.get("/v1/autodeco/traces/{name}")  # type: ignore[untyped-decorator]
        async def trace(name: str, raw_request: Request) -> dict[str, Any]:
            engine = raw_request.app.state.engine_client
            found = await engine.collective_rpc(WorkerExtension.autodeco_take_trace.__name__, args=(name,))
            tokens = next((values for values in found if values), None)
            if tokens is None:
                raise HTTPException(404, f"there is no trace '{name}': not sent, still running, or fetched before")
            return {"tokens": [dict(zip(TRACED, values, strict=True)) for values in tokens]}

        app.include_router(router)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Nothing to prepare."""
        return None
