"""Where a result came from: command, versions, seeds, machine and revision, written beside every run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autodeco.files import atomic_write_text
from autodeco.version import __version__

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "safetensors", "numpy", "reasoning-gym", "vllm")


def collect(**settings: Any) -> dict[str, Any]:
    """Returns a JSON-ready record of this process and the given settings (seeds, configuration, ...)."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "autodeco": __version__,
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "packages": _packages(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        **settings,
    }


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that results depend on, by name."""
    return {"autodeco": __version__, "python": platform.python_version(), **_packages()}


def write(path: Path, **settings: Any) -> None:
    """Writes :func:`collect`'s record to ``path``, replacing what is there atomically."""
    atomic_write_text(path, json.dumps(collect(**settings), indent=2, default=str) + "\n")


def _packages() -> dict[str, str]:
    return {name: version for name in _PACKAGES if (version := _version(name))}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the checkout that this package runs from, with ``-dirty`` if it has changes; none if installed."""
    folder = Path(__file__).parent
    try:
        revision = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip()
