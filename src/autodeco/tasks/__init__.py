"""Tasks: prompts with a verifier. Knows nothing about models."""

from autodeco.tasks.base import Example, Task, Verdict
from autodeco.tasks.demo import demo_tasks
from autodeco.tasks.jsonl import JsonlTask
from autodeco.tasks.reasoning_gym import ReasoningGymTask
from autodeco.tasks.registry import get_task, task_names

__all__ = ["Example", "JsonlTask", "ReasoningGymTask", "Task", "Verdict", "demo_tasks", "get_task", "task_names"]
