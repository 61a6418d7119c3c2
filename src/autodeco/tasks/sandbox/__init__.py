"""Running model-written code so that it cannot harm the machine: one subprocess a program, confined by the kernel."""

from autodeco.tasks.sandbox.run import UNCONFINED_VARIABLE, Limits, Outcome, check_sandbox, require_sandbox, run_python

__all__ = ["UNCONFINED_VARIABLE", "Limits", "Outcome", "check_sandbox", "require_sandbox", "run_python"]
