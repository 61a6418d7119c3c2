"""Runs model-written Python in a confined subprocess. Knows nothing about benchmarks.

What is prevented, and what is not, is in ``docs/tasks.md``.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from autodeco.errors import SandboxError

#: Set to ``1``, code runs with resource limits only where this machine cannot confine it.
UNCONFINED_VARIABLE = "AUTODECO_ALLOW_UNCONFINED_CODE"

_CHILD = Path(__file__).with_name("child.py")
#: The whole environment of sandboxed processes.
# The interpreter's hash seed is fixed, so that a program that depends on the order of a set fails or passes every time.
# (`-I` would ignore this variable; with an environment that holds nothing else, `-s -P` amount to the same.)
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Limits:
    """What one run may use.

    Attributes:
        seconds: wall-clock time.
        cpu_seconds: CPU time, all threads together.
        memory_bytes: address space.
        output_bytes: of standard output, standard error and returned values, each.
        file_bytes: of one file.
        folder_bytes: of all files in the throw-away folder.
        call_seconds: wall-clock time of each call of a function, within ``seconds``.
    """

    seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 1 << 30
    output_bytes: int = 1 << 20
    file_bytes: int = 8 << 20
    folder_bytes: int = 32 << 20
    call_seconds: float = 6.0


Status = Literal["completed", "raised", "exited", "killed", "timed_out", "too_much_output", "too_many_files"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: ``"completed"``: the program ran to its end and no exception left it; ``"exited"``: it ended its process
            itself, whatever the exit code; ``"killed"``: a signal ended it (memory, CPU time, a crash); the others say
            what they mean.
        error: what it raised, as ``"Type: message"``.
        stdout: its standard output.
        stderr: its standard error.
        values: what the called function returned, one for each call, as JSON types.
        returncode: of its process.
        seconds: wall-clock time, start of the interpreter included.
    """

    status: Status
    error: str | None = None
    stdout: str = ""
    stderr: str = ""
    values: list[Any] = field(default_factory=list)
    returncode: int | None = None
    seconds: float = 0.0


def run_python(
    source: str,
    *,
    stdin: str = "",
    as_script: bool = False,
    function: str | None = None,
    calls: Sequence[Sequence[Any]] = (),
    limits: Limits | None = None,
) -> Outcome:
    """Runs a program in a process of its own that can neither reach nor outlive anything else.

    Args:
        source: Python source text.
        stdin: what the program reads from standard input.
        as_script: run it as a script (``__name__ == "__main__"``; ``sys.exit`` is a normal end), not as a module.
        function: then call this function of it (or this method of its class ``Solution``).
        calls: the arguments of each call, as JSON types.
        limits: what it may use.

    Raises:
        SandboxError: this machine cannot confine a process, and :data:`UNCONFINED_VARIABLE` is not set.
    """
    chosen = limits or Limits()
    confined = check_sandbox()
    job = {
        **asdict(chosen),
        "source": source,
        "as_script": as_script,
        "function": function,
        "calls": [list(arguments) for arguments in calls],
        "readable": readable_paths(),
    }
    with (
        _throw_away_folder() as folder,
        tempfile.TemporaryFile() as job_file,
        tempfile.TemporaryFile() as stdin_file,
    ):
        job_file.write(json.dumps({**job, "folder": folder}).encode())
        stdin_file.write(stdin.encode("utf-8", "replace"))
        for file in (job_file, stdin_file):
            file.seek(0)
        return _Run(chosen, Path(folder)).run(job_file, stdin_file, confined)


@functools.lru_cache(maxsize=1)
def unsupported() -> str | None:
    """Why processes cannot be confined here, or ``None`` if they can."""
    try:
        from autodeco.tasks.sandbox import confine
    except ImportError:
        return f"the system is {sys.platform}, which has no resource limits"
    return confine.supported()


def check_sandbox() -> bool:
    """Whether code will be confined.

    Raises:
        SandboxError: it cannot be here, and the user has not allowed to run it all the same.
    """
    reason = unsupported()
    if reason is None:
        return True
    if os.name != "posix" or os.environ.get(UNCONFINED_VARIABLE) != "1":
        raise SandboxError(
            f"model-written code cannot be confined here: {reason}. Run this task on Linux (x86-64 or AArch64); or, in "
            f"a virtual machine or container that holds nothing of value, set {UNCONFINED_VARIABLE}=1."
        )
    return False


@functools.cache
def require_sandbox() -> None:
    """Runs an empty program, so that a machine without a sandbox is noticed before thousands are to be run.

    Raises:
        SandboxError: as :func:`run_python`.
    """
    run_python("pass")


@functools.lru_cache(maxsize=1)
def readable_paths() -> list[str]:
    """What Python needs to import its modules, and devices that tell nothing."""
    paths = sysconfig.get_paths()
    library = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    shared = [sysconfig.get_config_var("LIBDIR"), "/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64"]
    data = ["/usr/share/zoneinfo", "/etc/localtime", "/etc/ld.so.cache", "/dev/urandom", "/dev/random", "/dev/zero"]
    return sorted({path for path in [*library, *shared, *data] if path and Path(path) != Path.home()})


class _Run:
    """One process from start to end."""

    def __init__(self, limits: Limits, folder: Path) -> None:
        self._limits = limits
        self._folder = folder
        self._stopped: Status | None = None

    def run(self, job: IO[bytes], stdin: IO[bytes], confined: bool) -> Outcome:
        nonce = secrets.token_hex(16)
        nonce_out, nonce_in = os.pipe()
        os.write(nonce_in, nonce.encode())
        os.close(nonce_in)
        results_out, results_in = os.pipe()
        numbers = [job.fileno(), nonce_out, results_in, os.getpid(), int(confined)]
        started = time.monotonic()
        try:
            process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-B", str(_CHILD), *map(str, numbers)],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
                cwd=self._folder,
                pass_fds=numbers[:3],
                start_new_session=True,
            )
        except BaseException:
            os.close(results_out)
            raise
        finally:
            os.close(nonce_out)
            os.close(results_in)
        with process, os.fdopen(results_out, "rb", buffering=0) as results:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                texts = self._collect(process, [process.stdout, process.stderr, results], started)
            finally:
                _kill(process)
        return self._outcome(texts, nonce, process.returncode, time.monotonic() - started)

    def _collect(self, process: subprocess.Popen[bytes], streams: list[Any], started: float) -> list[bytes]:
        """Reads all streams until the process ends or goes over a limit."""
        collected = [bytearray() for _ in streams]
        deadline = started + self._limits.seconds
        with selectors.DefaultSelector() as selector:
            for index, stream in enumerate(streams):
                selector.register(stream, selectors.EVENT_READ, index)
            while selector.get_map() and self._stopped is None:
                for key, _ in selector.select(_POLL_SECONDS):
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    collected[key.data] += chunk
                    if len(collected[key.data]) > self._limits.output_bytes:
                        self._stopped = "too_much_output"
                self._watch(deadline)
        while self._stopped is None and process.poll() is None:  # it closed its streams and goes on
            time.sleep(0.01)
            self._watch(deadline)
        return [bytes(text[: self._limits.output_bytes]) for text in collected]

    def _watch(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            self._stopped = self._stopped or "timed_out"
        elif _folder_bytes(self._folder) > self._limits.folder_bytes:
            self._stopped = self._stopped or "too_many_files"

    def _outcome(self, texts: list[bytes], nonce: str, returncode: int, seconds: float) -> Outcome:
        stdout, stderr = (text.decode("utf-8", "replace") for text in texts[:2])
        messages = [message for line in texts[2].splitlines() if (message := _message(line)) is not None]
        for message in messages:
            if "unconfined" in message:
                raise SandboxError(f"the kernel refuses to confine model-written code: {message['unconfined']}.")
        last = messages[-1] if messages else {}
        error = str(last["raised"]) if "raised" in last else None
        status: Status = "killed" if returncode < 0 else "exited"
        if self._stopped is not None:
            status = self._stopped
        elif last.get("done") == nonce:
            status = "completed"
        elif error is not None:
            status = "raised"
        values = [message["value"] for message in messages if "value" in message]
        return Outcome(status, error, stdout, stderr, values, returncode, seconds)


@contextmanager
def _throw_away_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="autodeco-sandbox-")
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder)
        except (OSError, RecursionError):  # folders that may not be listed, or are nested too deeply for Python
            for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
                subprocess.run([*command, "--", folder], stderr=subprocess.DEVNULL, check=False)


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Until it is waited for, its number is its own, also if it has ended.
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
    process.wait()


def _folder_bytes(folder: Path) -> int:
    total, entries, waiting = 0, 0, [str(folder)]
    while waiting and entries < 10_000:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    entries += 1
                    status = entry.stat(follow_symlinks=False)
                    total += 4096 + max(status.st_size, 512 * status.st_blocks)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EACCES):  # so that nobody could count what is in there
                return sys.maxsize
            continue  # gone meanwhile
    return total
