"""What an upload sends, and the model card in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import CommitInfo, ModelCard

from autodeco import AutoDecoConfig, AutoDecoForCausalLM, DecodingHeads
from autodeco.checkpoint import load_heads, push_heads
from autodeco.checkpoint.model_card import heads_card, merged_card
from tests.adapters import adapted_model
from tests.checkpoint.conftest import assert_same_tensors


@pytest.fixture
def uploads(monkeypatch, tmp_path: Path) -> list[dict[str, object]]:
    calls: list[dict[str, object]] = []

    class Api:
        def __init__(self, token: object = None) -> None:
            calls.append({"token": token})

        def create_repo(self, repo_id: str, **kwargs: object) -> SimpleNamespace:
            calls.append({"create": repo_id, **kwargs})
            return SimpleNamespace(repo_id=f"me/{repo_id}")

        def create_branch(self, repo_id: str, **kwargs: object) -> None:
            calls.append({"branch_of": repo_id, **kwargs})

        def upload_folder(self, *, folder_path: Path, **kwargs: object) -> CommitInfo:
            sent = tmp_path / "sent"
            sent.mkdir()
            for path in folder_path.iterdir():
                (sent / path.name).write_bytes(path.read_bytes())
            calls.append({"sent": sorted(path.name for path in folder_path.iterdir()), **kwargs})
            return CommitInfo("https://huggingface.co/me/name/commit/1", "message", "", "1")

    monkeypatch.setattr("autodeco.checkpoint.hub.HfApi", Api)
    return calls


def test_exactly_heads_and_card_are_uploaded(uploads: list[dict[str, object]], tmp_path: Path) -> None:
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, base_model_name_or_path="owner/base"))
    commit = push_heads(heads, "name", private=True, token="secret", revision="dev", tags=["math"])
    assert commit.commit_url == "https://huggingface.co/me/name/commit/1"
    assert uploads[0] == {"token": "secret"}
    assert uploads[1] == {"create": "name", "private": True, "exist_ok": True}
    assert uploads[2] == {"branch_of": "me/name", "branch": "dev", "exist_ok": True}
    files = ["README.md", "autodeco_config.json", "autodeco_heads.safetensors"]
    assert uploads[3]["sent"] == sorted(files)
    assert sorted(uploads[3]["allow_patterns"]) == sorted(files)
    assert (uploads[3]["repo_id"], uploads[3]["revision"]) == ("me/name", "dev")
    assert_same_tensors(load_heads(tmp_path / "sent").state_dict(), heads.state_dict())
    assert ModelCard((tmp_path / "sent" / "README.md").read_text()).data.tags == [
        "autodeco",
        "decoding",
        "sampling",
        "math",
    ]


@pytest.mark.parametrize("name", ["owner/base", None, "/somewhere/on/this/machine", "./base", "smollm2-135m"])
def test_card(name: str | None) -> None:
    config = AutoDecoConfig(hidden_size=8, top_p_head=False, base_model_name_or_path=name)
    for text in (heads_card(config), merged_card(config)):
        front = yaml.safe_load(text.split("---")[1])
        assert front["library_name"] == "autodeco"
        assert front.get("base_model") == ("owner/base" if name == "owner/base" else None)
        assert "license" not in front
        assert "AutoDecoForCausalLM.from_pretrained" in text
        assert "the temperature to sample" in text
        assert '"hidden_size": 8' in text
        code = text.split("```python\n")[1].split("```")[0]
        compile(code, "card", "exec")
        assert len(code.splitlines()) <= 7


def test_an_adapter_is_uploaded_with_the_heads(
    uploads: list[dict[str, object]], tmp_path: Path, base_folder: Path
) -> None:
    adapted_model(base_folder).push_to_hub("name", tags=["math"])
    files = ["README.md", "adapter_config.json", "adapter_model.safetensors", "autodeco_config.json",
             "autodeco_heads.safetensors"]  # fmt: skip
    assert uploads[-1]["sent"] == sorted(uploads[-1]["allow_patterns"]) == files
    assert "LoRA adapter beside them" in (tmp_path / "sent" / "README.md").read_text()
    AutoDecoForCausalLM.from_pretrained(tmp_path / "sent")
