"""Uploading heads to a hub, with the model card that this project writes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from huggingface_hub import HfApi

from autodeco.checkpoint.adapter import SavedAdapter
from autodeco.checkpoint.heads import save_heads
from autodeco.checkpoint.layout import ADAPTER_CONFIG, ADAPTER_FILE, HEADS_CONFIG, HEADS_FILE
from autodeco.checkpoint.model_card import heads_card
from autodeco.heads import DecodingHeads


def push_heads(
    heads: DecodingHeads,
    repo_id: str,
    *,
    adapter: SavedAdapter | None = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tags: Sequence[str] | None = None,
) -> str:
    """Uploads heads, their configuration, adapter and model card as one commit, making the repository if need be.

    Transformers' ``push_to_hub`` would put its own empty model card in the place of this one.

    Args:
        heads: the heads.
        repo_id: ``owner/name``.
        adapter: the one that the heads were trained with, if any.
        commit_message: first line of the commit.
        commit_description: the rest of it.
        private: whether a new repository is private.
        token: access token; by default that of ``hf auth login``.
        revision: branch to commit to, made if need be.
        create_pr: open a pull request rather than commit.
        tags: added to the model card.

    Returns:
        The hub's ``CommitInfo``, a string with the address of the commit.

    Raises:
        CheckpointError: a weight is NaN or infinite.
    """
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and not create_pr:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    files = [HEADS_CONFIG, HEADS_FILE, "README.md", *([] if adapter is None else [ADAPTER_CONFIG, ADAPTER_FILE])]
    with tempfile.TemporaryDirectory() as name:
        save_heads(heads, name, adapter)
        config = replace(heads.config, adapter_sha256=None if adapter is None else adapter.sha256)
        (Path(name) / "README.md").write_text(heads_card(config, tags or ()), encoding="utf-8")
        commit: str = api.upload_folder(
            repo_id=repo_id,
            folder_path=Path(name),
            allow_patterns=files,
            commit_message=commit_message or "Upload AutoDeco heads",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
        )
    return commit
