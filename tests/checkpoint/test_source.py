"""Checkpoints on a hub: only what is needed is fetched, and errors say what was tried. The hub here is a folder."""

from __future__ import annotations

import fnmatch
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from autodeco.checkpoint import convert, inspect, load_heads, load_model, merge
from autodeco.checkpoint.source import Source, no_connection
from autodeco.errors import CheckpointError, ModelNotFoundError
from tests.checkpoint.conftest import assert_same_tensors


class FakeHub:
    """Serves folders as repositories, and keeps a list of what was asked for."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self.fetched: list[str] = []
        self.revisions: set[str | None] = set()

    def file(self, repo_id: str, filename: str, revision: str | None = None, **_: object) -> str:
        self.revisions.add(revision)
        path = self.folders[repo_id] / filename
        if not path.is_file():
            raise EntryNotFoundError(filename)
        self.fetched.append(filename)
        return str(path)

    def snapshot(
        self, repo_id: str, revision: str | None = None, ignore_patterns: list[str] | None = None, **_: object
    ) -> str:
        self.revisions.add(revision)
        for path in self.folders[repo_id].iterdir():
            if not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignore_patterns or ()):
                self.fetched.append(path.name)
        return str(self.folders[repo_id])


@pytest.fixture
def hub(monkeypatch, sharded_base: Path, heads_folder: Path, merged_folder: Path, tmp_path: Path) -> FakeHub:
    convert(heads_folder, tmp_path / "released", "released-full")
    folders = {"a/base": sharded_base, "a/heads": heads_folder, "a/merged": merged_folder}
    hub = FakeHub({**folders, "a/released": tmp_path / "released"})
    monkeypatch.setattr("autodeco.checkpoint.source.hf_hub_download", hub.file)
    monkeypatch.setattr("autodeco.checkpoint.source.snapshot_download", hub.snapshot)
    return hub


@pytest.mark.parametrize("name", ["a/heads", "a/merged", "a/released"])
def test_only_the_file_with_the_heads_is_fetched(hub: FakeHub, heads_folder: Path, name: str) -> None:
    heads = load_heads(name, revision="v1")
    assert_same_tensors(heads.state_dict(), load_heads(heads_folder).state_dict())
    shards = {file for file in hub.fetched if file.endswith(".safetensors")}
    assert len(shards) == 1
    assert hub.revisions == {"v1"}


@pytest.mark.parametrize("name", ["a/merged", "a/released"])
def test_models_load_under_the_name_that_was_typed(hub: FakeHub, heads_folder: Path, name: str) -> None:
    model = load_model(name, revision="v1")
    assert model.config._name_or_path == name
    assert_same_tensors(model.state_dict(), load_model(heads_folder).state_dict())
    assert hub.revisions == {"v1"}


def test_merging_fetches_no_weights_in_other_formats(hub: FakeHub, tmp_path: Path, sharded_base: Path) -> None:
    merge("a/base", "a/heads", tmp_path / "output", base_revision="v2", heads_revision="v1")
    assert "pytorch_model.bin" not in hub.fetched
    assert hub.revisions == {"v1", "v2"}
    config = load_heads(tmp_path / "output").config
    assert (config.base_model_name_or_path, config.base_model_revision) == ("a/base", "v2")
    assert inspect("a/base").layout == "base"


def test_released_heads_need_no_weights_of_the_base(hub: FakeHub, tmp_path: Path) -> None:
    convert("a/heads", tmp_path / "output", "released-heads", base="a/base")
    assert not [name for name in hub.fetched if name.startswith("model-")]
    assert (tmp_path / "output" / "tokenizer.json").is_file()


def _http_error(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)  # without the HTTP response that the real ones are made from
    Exception.__init__(error, "from the hub")
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (_http_error(RepositoryNotFoundError), "no such repository.*hf auth login"),
        (_http_error(GatedRepoError), "gated.*hf auth login"),
        (_http_error(RevisionNotFoundError), "no revision 'v9'"),
        (OfflineModeIsEnabled("offline mode is enabled"), "offline mode is enabled"),
        (LocalEntryNotFoundError("not in the cache"), "neither autodeco_config.json nor config.json"),
    ],
)
def test_hub_errors(monkeypatch, error: Exception, message: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("autodeco.checkpoint.source.hf_hub_download", fail)
    with pytest.raises(ModelNotFoundError, match=rf"'owner/name' was not found. Tried: a local folder .*{message}"):
        load_heads("owner/name", revision="v9")


@pytest.fixture
def _asked_again() -> Iterator[None]:
    no_connection.cache_clear()
    yield
    no_connection.cache_clear()


@pytest.mark.usefixtures("_asked_again")
def test_a_hub_that_is_not_there_is_asked_once(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr("autodeco.checkpoint.source.constants.ENDPOINT", "http://localhost:1")
    monkeypatch.setattr("autodeco.checkpoint.source.constants.HF_HUB_OFFLINE", False)

    def from_cache(*_: object, local_files_only: bool, **__: object) -> None:
        asked.append(local_files_only)
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr("autodeco.checkpoint.source.hf_hub_download", from_cache)
    with pytest.raises(ModelNotFoundError, match=r"hub \(it cannot be reached, and among the files it gave before"):
        load_heads("owner/name")
    assert asked == [True, True]


@pytest.mark.usefixtures("_asked_again")
def test_a_hub_that_takes_connections_and_never_answers_cannot_be_reached(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("autodeco.checkpoint.source.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("autodeco.checkpoint.source.constants.HF_HUB_ETAG_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("autodeco.checkpoint.source.constants.ENDPOINT", endpoint)
        assert no_connection()


@pytest.mark.usefixtures("_asked_again")
def test_a_hub_that_answers_with_an_error_can_be_reached(monkeypatch) -> None:
    monkeypatch.setattr("autodeco.checkpoint.source.constants.HF_HUB_OFFLINE", False)

    def refuse(request: urllib.request.Request, **_: object) -> None:
        raise urllib.error.HTTPError(request.full_url, 405, "no HEAD here", Message(), None)

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert not no_connection()


@pytest.mark.parametrize("name", ["./runs/heads", "../heads", "/absent/heads", "runs/one/heads", "~/heads"])
def test_paths_are_not_taken_for_hub_ids(name: str, monkeypatch) -> None:
    monkeypatch.setattr("autodeco.checkpoint.source.hf_hub_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        load_heads(name)


def test_needed_file_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokens\.txt is missing"):
        Source.open(tmp_path).need("tokens.txt")
