"""Tasks by name, for the command line. Imports a task's module only when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autodeco.errors import ConfigError, DataError, MissingDependencyError, did_you_mean
from autodeco.files import sha256_of
from autodeco.tasks.base import Task
from autodeco.tasks.demo import demo_tasks
from autodeco.tasks.jsonl import JsonlTask
from autodeco.tasks.open_prompts import OpenPrompts
from autodeco.tasks.reasoning_gym import ReasoningGymTask, family_names

# Name: module under autodeco.tasks.benchmarks, class.
_BENCHMARKS = {
    "aime24": ("mathematics", "AIME24"),
    "aime25": ("mathematics", "AIME25"),
    "beyondaime": ("mathematics", "BeyondAIME"),
    "brumo25": ("mathematics", "BRUMO25"),
    "gpqa-diamond": ("gpqa", "GPQADiamond"),
    "gsm8k": ("gsm8k", "GSM8K"),
    "hmmt25": ("mathematics", "HMMT25"),
    "humaneval": ("humaneval", "HumanEval"),
    "ifeval": ("ifeval", "IFEval"),
    "livecodebench-v6": ("livecodebench", "LiveCodeBenchV6"),
    "mmlu-pro": ("mmlu_pro", "MMLUPro"),
    "mmlu-pro-lite": ("mmlu_pro", "MMLUProLite"),
}
_OPEN_PROMPTS = "open-prompts"
_DEMO_NAMES = ("demo-sums", "demo-products", "demo-letters")


def get_task(
    name: str,
    data: str | Path | None = None,
    verifier: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Task:
    """Returns a task by name.

    Args:
        name: a benchmark (``"ifeval"``, ...), a demo task (``"demo-sums"``, ...), ``"open-prompts"``, a
            reasoning-gym family (``"reasoning-gym/gcd"``), the path of a ``.jsonl`` file, or
            ``path/to/file.py:ClassName``, a task of your own.
        data: a local file or folder for a benchmark to read instead of the hub.
        verifier: how a JSONL file's answers are compared, ``"number"`` if not given; the other tasks have their own.
        settings: a reasoning-gym family's settings, or the arguments of a task of your own.

    Raises:
        DataError: there is no task of that name, or its data cannot be used.
        ConfigError: an argument that this kind of task does not take.
        MissingDependencyError: a package that the task needs is not installed.
    """
    path, _, class_name = name.rpartition(":")
    if path.endswith(".py"):
        _refuse(name, data=data, verifier=verifier)
        return _own_task(Path(path), class_name, settings or {})
    if name.endswith(".jsonl"):
        _refuse(name, data=data, settings=settings)
        return JsonlTask(Path(name), verifier=verifier or "number")
    prefix, _, family = name.partition("/")
    if prefix == "reasoning-gym" and family:
        _refuse(name, data=data, verifier=verifier)
        return ReasoningGymTask(family, name=name, answer_kind="text", settings=settings)
    if name in _BENCHMARKS:
        _refuse(name, verifier=verifier, settings=settings)
        module, kind = _BENCHMARKS[name]
        task: Task = getattr(importlib.import_module(f"autodeco.tasks.benchmarks.{module}"), kind)(data)
        return task
    if name == _OPEN_PROMPTS:
        _refuse(name, data=data, verifier=verifier, settings=settings)
        return OpenPrompts()
    if name in _DEMO_NAMES:
        _refuse(name, data=data, verifier=verifier, settings=settings)
        return next(task for task in demo_tasks() if task.name == name)
    raise DataError(
        f"unknown task '{name}'.{_hint(name)} A path that ends in .jsonl, or path/to/file.py:ClassName, is your own "
        f"task."
    )


def task_names() -> list[str]:
    """Names that :func:`get_task` knows, apart from files: the demo's tasks first.

    Raises:
        MissingDependencyError: reasoning-gym is not installed.
    """
    return [*_DEMO_NAMES, *_BENCHMARKS, _OPEN_PROMPTS, *(f"reasoning-gym/{family}" for family in family_names())]


def _hint(name: str) -> str:
    try:
        known = task_names()
    except MissingDependencyError:
        known = [*_DEMO_NAMES, *_BENCHMARKS, _OPEN_PROMPTS]
    # The nearest of all, families by their own names too; but never a list of a hundred families.
    nearest = difflib.get_close_matches(name, [*known, *(known.rpartition("/")[2] for known in known)], n=1, cutoff=0.5)
    if not nearest:
        return f" Valid names: {', '.join([*_DEMO_NAMES, *_BENCHMARKS, _OPEN_PROMPTS, 'reasoning-gym/FAMILY'])}."
    return f" Did you mean '{next(whole for whole in known if whole.endswith(nearest[0]))}'?"


def _refuse(name: str, **arguments: Any) -> None:
    for argument, value in arguments.items():
        if value:
            raise ConfigError(f"task '{name}' takes no '{argument}', found {value!r}. Leave it out.")


def _own_task(path: Path, class_name: str, settings: Mapping[str, Any]) -> Task:
    if not path.is_file():
        raise DataError(f"{path}: no such file; a task of your own is named as path/to/file.py:ClassName.")
    module_name = f"_autodeco_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    found = {
        name: kind
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, Task) and not inspect.isabstract(kind)
    }
    if class_name not in found:
        raise DataError(
            f"{path} has no class '{class_name}' that is a complete autodeco.tasks.Task."
            + (did_you_mean(class_name, found) if found else " It has none at all.")
        )
    try:
        task: Task = found[class_name](**settings)
    except TypeError as error:
        raise ConfigError(f"{path}:{class_name} refuses {dict(settings)}: {error}") from error
    task.origin = {"file_sha256": sha256_of(path), "settings": dict(settings)}
    return task
