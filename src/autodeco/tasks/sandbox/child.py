"""What the sandboxed process runs: confine itself, then execute one program. Never imported by autodeco.

Started by ``run.py`` as ``python child.py JOB NONCE RESULTS PARENT CONFINE``: descriptors of the job (JSON), of a pipe
that holds a secret, and of the pipe for results; the parent's process id; whether to confine. The results are lines of
JSON: ``{"value": ...}`` for each call, then ``{"done": secret}`` or ``{"raised": "Type: message"}``.

The secret is read only after the program has ended well, so that a program that leaves early (``os._exit(0)``), or
prints whatever it thinks the test harness prints, is never taken for one that passed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from types import FrameType
from typing import Any


def main() -> None:
    """Does the job; ends the process with ``os._exit`` so that nothing the program left behind runs."""
    job_fd, nonce_fd, results_fd, parent, confined = map(int, sys.argv[1:])
    del sys.argv[1:]
    with os.fdopen(job_fd, "rb") as file:
        job = json.load(file)
    try:
        _confine(job, parent, bool(confined))
    except Exception as error:
        _send(results_fd, {"unconfined": f"{type(error).__name__}: {error}"})
        os._exit(1)
    # Bound now: the program may replace anything in these modules.
    send, read, leave, dumps, out = _send, os.read, os._exit, json.dumps, sys.stdout
    write = os.write
    try:
        _execute(job, lambda value: send(results_fd, {"value": value}, dumps, write))
        out.flush()
        if sys.stdout is not out:
            sys.stdout.flush()
        send(results_fd, {"done": read(nonce_fd, 64).decode()}, dumps, write)
    except BaseException as error:
        try:
            message = f"{type(error).__name__}: {error}"
        except BaseException:
            message = "an exception that cannot be shown"
        send(results_fd, {"raised": message[:2000]}, dumps, write)
        leave(1)
    leave(0)


def _confine(job: dict[str, Any], parent: int, confined: bool) -> None:
    spec = importlib.util.spec_from_file_location("confine", os.path.join(os.path.dirname(__file__), "confine.py"))  # noqa: PTH118, PTH120
    assert spec is not None
    assert spec.loader is not None
    confine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(confine)
    if confined:
        confine.die_with_parent(parent)
    confine.limit_resources(job["memory_bytes"], job["cpu_seconds"], job["file_bytes"])
    if confined:
        confine.confine(job["readable"], job["folder"])


def _execute(job: dict[str, Any], send: Any) -> None:
    program = compile(job["source"], "<program>", "exec", dont_inherit=True)
    namespace: dict[str, Any] = {"__name__": "__main__"} if job["as_script"] else {}
    try:
        exec(program, namespace)
    except SystemExit:
        if not job["as_script"]:
            raise
    if job["function"] is not None:
        function = _find(job["function"], namespace)
        for arguments in job["calls"]:
            send(_plain(_timed(function, arguments, job["call_seconds"]), top=True))


def _find(name: str, namespace: dict[str, Any]) -> Any:
    """A function of that name, or the method of a class ``Solution`` (LeetCode's convention)."""
    if "Solution" in namespace:
        return getattr(namespace["Solution"](), name)
    if name not in namespace:
        raise NameError(f"the program defines no function '{name}'")
    return namespace[name]


def _timed(function: Any, arguments: list[Any], seconds: float) -> Any:
    def too_long(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"a call took more than {seconds} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _plain(value: Any, top: bool = False) -> Any:
    """JSON types. A tuple counts as a list only where it is the whole answer, as LiveCodeBench's own check has it."""
    if isinstance(value, tuple) and not top:
        return {"tuple": [_plain(item) for item in value]}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    return value.item() if hasattr(value, "item") else {"type": type(value).__name__}


def _send(fd: int, message: dict[str, Any], dumps: Any = json.dumps, write: Any = os.write) -> None:
    line = (dumps(message) + "\n").encode()
    while line:
        line = line[write(fd, line) :]


if __name__ == "__main__":
    main()
