"""``autodeco serve``: an OpenAI-compatible server whose model decodes itself, on vLLM or on Transformers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autodeco.cli.options import LOOPBACK

# What is not an option here goes to vLLM's server as it is.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}


def command(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Heads, a merged or a released checkpoint, or a base with --heads.")],
    heads: Annotated[str | None, typer.Option(help="Heads for a plain base model.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model; without it the one that the heads record.")] = None,
    revision: Annotated[str | None, typer.Option(help="Hub revision of the model.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="VLLM_API_KEY", help="Key that clients have to send as a bearer token.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="vllm, transformers, or auto: vLLM where it is installed.", metavar="ENGINE")
    ] = "auto",
) -> None:
    """Serve a model that decodes itself with an OpenAI-compatible API: on vLLM, or else on Transformers' own server.

    Further flags go to vLLM's own server (--max-model-len, --dtype, --tensor-parallel-size, --ssl-certfile, ...);
    Transformers' has --dtype, --seed, --ssl-certfile and --ssl-keyfile.
    Requests need no sampling parameters; a temperature multiplies the learned one, and 0 is greedy.

    \b
    Examples:
      autodeco serve runs/heads
      autodeco serve runs/merged --port 8080 --max-model-len 4096
      autodeco serve smollm2-135m --heads runs/heads --api-key secret --host 0.0.0.0
      curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
        -d '{"model": "heads", "messages": [{"role": "user", "content": "Hello"}]}'
    """
    from autodeco.serving import transformers as own_server
    from autodeco.serving.checkpoint import check_vllm, served_model, with_adapter_folded
    from autodeco.serving.load import load_model_and_tokenizer
    from autodeco.serving.samplers import chosen_engine
    from autodeco.serving.vllm import launch

    console = Console(stderr=True)
    if host not in LOOPBACK and api_key is None:
        console.print(
            f"warning: listening on {host} without an API key: whoever reaches this machine can use the model. "
            f"Give --api-key, or keep to 127.0.0.1.",
            style="yellow",
            soft_wrap=True,
        )
    on_vllm = chosen_engine(engine) == "vllm"
    if not on_vllm:
        own_server.check_installed()
    with tempfile.TemporaryDirectory(prefix="autodeco-serve-") as scratch:
        served = served_model(model, heads=heads, base=base, revision=revision, scratch=Path(scratch))
        if on_vllm:
            on_cpu = launch.is_cpu_build()
            check_vllm(model, heads, revision, on_cpu=on_cpu)
            served = with_adapter_folded(served, Path(scratch))
            if api_key is not None:
                os.environ["VLLM_API_KEY"] = api_key  # not on a command line, where other users of the machine see it
            address = ["--host", host, "--port", str(port)]
            argv = launch.arguments(served, [*address, *context.args], on_cpu=on_cpu)
            raise typer.Exit(launch.serve(argv))
        options = own_server.flags(context.args)
        loaded, tokenizer = load_model_and_tokenizer(
            heads or model, base_model=model if heads else base, revision=revision, dtype=options.dtype
        )
    status = own_server.serve(loaded, tokenizer, served.name, host=host, port=port, api_key=api_key, options=options)
    raise typer.Exit(status)
