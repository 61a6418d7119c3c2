"""Tasks by name, for the command line."""

from __future__ import annotations

from pathlib import Path

from autodeco.errors import DataError, did_you_mean
from autodeco.tasks.base import Task
from autodeco.tasks.demo import demo_tasks
from autodeco.tasks.jsonl import JsonlTask
from autodeco.tasks.reasoning_gym import ReasoningGymTask, family_names


def get_task(name: str, verifier: str = "number") -> Task:
    """Returns a task by name.

    Args:
        name: a demo task (``"demo-sums"``, ...), a reasoning-gym family with its default settings
            (``"reasoning-gym/gcd"``), or the path of a ``.jsonl`` file.
        verifier: how a JSONL file's answers are compared, ``"number"`` or ``"exact"``; the other tasks have their own.

    Raises:
        DataError: there is no task of that name, or the file cannot be used.
        MissingDependencyError: reasoning-gym is not installed.
    """
    if name.endswith(".jsonl"):
        return JsonlTask(Path(name), verifier=verifier)
    prefix, _, family = name.partition("/")
    if prefix == "reasoning-gym" and family:
        return ReasoningGymTask(family, name=name, answer_kind="text")
    for task in demo_tasks():
        if task.name == name:
            return task
    raise DataError(
        f"unknown task '{name}'.{did_you_mean(name, task_names())} A path that ends in .jsonl is a task of your own."
    )


def task_names() -> list[str]:
    """Names that :func:`get_task` knows, apart from files: the demo's tasks first.

    Raises:
        MissingDependencyError: reasoning-gym is not installed.
    """
    return [task.name for task in demo_tasks()] + [f"reasoning-gym/{family}" for family in family_names()]
