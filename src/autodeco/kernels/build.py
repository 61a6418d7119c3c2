"""Compiles ``cpu.c`` for this machine, once, into the user's cache. Loads and calls nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import platformdirs

from autodeco.processor import description

_FLAGS = ("-std=c11", "-O3", "-march=native", "-fno-trapping-math", "-fno-math-errno", "-ffp-contract=fast")
_SHARED = ("-fopenmp", "-fPIC", "-shared")
_BUILD_SECONDS = 120


def built_library() -> Path:
    """The shared library for this source, compiler and processor, from the cache or built into it.

    Raises:
        OSError: there is no compiler, or the cache cannot be written.
        subprocess.SubprocessError: the compiler fails, or takes too long.
    """
    source = resources.files("autodeco.kernels").joinpath("cpu.c").read_bytes()
    compiler = compiler_command()
    key = hashlib.sha256()
    for part in (source.decode(), *compiler, *_FLAGS, *_SHARED, description(), sys.platform):
        key.update(part.encode() + b"\0")
    root = os.environ.get("AUTODECO_CACHE") or platformdirs.user_cache_dir("autodeco")
    folder = Path(root) / "kernels"
    library = folder / f"cpu-{key.hexdigest()[:16]}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        own = Path(temporary)
        (own / "cpu.c").write_bytes(source)
        command = [*compiler, *_FLAGS, *_SHARED, "cpu.c", "-o", "cpu.so", "-lm"]
        subprocess.run(command, cwd=own, check=True, capture_output=True, timeout=_BUILD_SECONDS)
        (own / "cpu.so").replace(library)  # whole or not at all, also where several processes build at once
    return library


def compiler_command() -> list[str]:
    """The C compiler's command.

    Raises:
        FileNotFoundError: there is none.
    """
    named = os.environ.get("CC")
    for command in ([named] if named else []) + ["cc", "gcc", "clang"]:
        if shutil.which(command.split()[0]):
            return command.split()
    raise FileNotFoundError("no C compiler was found; CC, cc, gcc and clang were tried")


def reason_of(error: Exception) -> str:
    """Why the library could not be built, in a line."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        return lines[0] if lines else f"{error.cmd[0]} ended with status {error.returncode}"
    return str(error)
