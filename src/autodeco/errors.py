"""Errors a user can act on: each names what was found, what was needed and what to do.

The command line prints them without a traceback and exits with status 2; everything else that is raised is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AutoDecoError(Exception):
    """Base class of every error that is the input's fault rather than the program's."""


class ConfigError(AutoDecoError, ValueError):
    """A setting is unknown, of the wrong type or out of bounds."""


class CheckpointError(AutoDecoError, ValueError):
    """A checkpoint is damaged, incomplete, or belongs to another base model."""


class ModelNotFoundError(AutoDecoError, OSError):
    """A model id is neither a local folder nor a reachable hub repository."""


class DataError(AutoDecoError, ValueError):
    """A data file or one of its rows cannot be used."""


class RunFolderError(AutoDecoError, OSError):
    """An output folder holds another run, or cannot be written."""


class StoreError(AutoDecoError, ValueError):
    """A hidden-state store is damaged, incomplete, or of another model or other data."""


class TrainingError(AutoDecoError, RuntimeError):
    """Training cannot go on (a loss or a gradient that is not finite, a base that changed)."""


class SandboxError(AutoDecoError, RuntimeError):
    """Model-written code cannot be confined on this machine, so it is not run."""


class ServerError(AutoDecoError, RuntimeError):
    """A server cannot be reached, refuses a request, or went away."""


class MissingDependencyError(AutoDecoError, ImportError):
    """An optional dependency is needed and absent."""


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """Returns ``" Did you mean 'x'?"`` for the nearest valid name, or a list of all of them."""
    names = sorted(valid)
    nearest = difflib.get_close_matches(found, names, n=1, cutoff=0.5)
    return f" Did you mean '{nearest[0]}'?" if nearest else f" Valid names: {', '.join(names)}."
