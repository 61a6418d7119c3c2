"""Heads written and read in this project's layout, and every way in which they can be wrong."""

from __future__ import annotations

import errno
import json
import logging
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autodeco import AutoDecoConfig, AutoDecoForCausalLM, DecodingHeads
from autodeco.checkpoint import load_heads, load_model, save_heads
from autodeco.errors import CheckpointError, ConfigError, ModelNotFoundError, RunFolderError
from tests.checkpoint.conftest import assert_same_tensors, edit_json, outputs_of
from tests.conftest import tiny_llama

CONFIG = "autodeco_config.json"
HEADS = "autodeco_heads.safetensors"


def make_heads(**settings: object) -> DecodingHeads:
    return DecodingHeads(AutoDecoConfig(**{"hidden_size": 32, "vocab_size": 128, **settings}))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature_head": False},
        {"top_p_head": False},
        {"statistics_features": False},
        {"temperature_features": True},
        {"prompt_summary": True},
        {"prompt_summary": True, "top_p_head": False},
        {"mlp_hidden_size": 16, "max_temperature": 3.0, "min_temperature": 0.1, "vocab_size": None},
        {"base_model_name_or_path": "owner/name", "base_model_revision": "main"},
    ],
)
def test_heads_come_back_as_they_were(tmp_path: Path, settings: dict[str, object]) -> None:
    heads = make_heads(**settings)
    save_heads(heads, tmp_path / "new" / "folder")
    loaded = load_heads(tmp_path / "new" / "folder")
    assert loaded.config == heads.config
    assert_same_tensors(loaded.state_dict(), heads.state_dict())
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in loaded.parameters())


def test_exactly_three_files_are_written_and_saving_again_replaces_them(tmp_path: Path) -> None:
    for _ in range(2):
        heads = make_heads()
        save_heads(heads, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", CONFIG, HEADS]
    assert_same_tensors(load_heads(tmp_path).state_dict(), heads.state_dict())


def test_saved_in_their_dtype_and_loaded_in_float32(tmp_path: Path) -> None:
    heads = make_heads().to(torch.bfloat16)
    save_heads(heads, tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / HEADS).values()} == {torch.bfloat16}
    loaded = load_heads(tmp_path)
    assert loaded.dtype == torch.float32
    assert_same_tensors(loaded.state_dict(), {name: t.float() for name, t in heads.state_dict().items()})


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    save_heads(make_heads(), tmp_path)
    state = torch.get_rng_state()
    load_heads(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_model_is_the_same_after_saving_and_loading(tmp_path: Path, base_folder: Path) -> None:
    model = AutoDecoForCausalLM.from_base(str(base_folder))
    model.save_pretrained(tmp_path / "heads")
    loaded = AutoDecoForCausalLM.from_pretrained(tmp_path / "heads")
    for found, expected in zip(outputs_of(loaded), outputs_of(model), strict=True):
        assert torch.equal(found, expected)
    assert loaded.autodeco_config == model.autodeco_config
    assert loaded.autodeco_config.base_model_name_or_path == str(base_folder)


def test_base_recorded_relative_to_the_folder_of_the_heads(tmp_path: Path, base_folder: Path, monkeypatch) -> None:
    save_heads(make_heads(vocab_size=None, base_model_name_or_path="../base"), tmp_path / "heads")
    monkeypatch.chdir("/")
    loaded = load_model(tmp_path / "heads")
    assert loaded.autodeco_config.base_model_name_or_path == str(base_folder)
    loaded.save_pretrained(tmp_path / "elsewhere" / "heads")  # still finds its base from there
    assert load_model(tmp_path / "elsewhere" / "heads").autodeco_config == loaded.autodeco_config


def test_base_recorded_relative_to_the_working_directory(tmp_path: Path, base_folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    AutoDecoForCausalLM.from_base("base").save_pretrained("runs/one/heads")
    assert json.loads(Path("runs/one/heads", CONFIG).read_text())["base_model_name_or_path"] == "base"
    assert load_model("runs/one/heads").config._name_or_path == "base"


def test_another_base_is_used_with_a_warning(tmp_path: Path, base_folder: Path, caplog) -> None:
    save_heads(make_heads(vocab_size=None, base_model_name_or_path="owner/trained-on-this"), tmp_path / "heads")
    with caplog.at_level(logging.WARNING, "autodeco"):
        model = load_model(tmp_path / "heads", base_model=base_folder)
    assert "owner/trained-on-this" in caplog.text
    assert str(base_folder) in caplog.text
    assert model.autodeco_config.base_model_name_or_path == "owner/trained-on-this"


def test_the_recorded_base_given_explicitly_is_no_reason_to_warn(tmp_path: Path, base_folder: Path, caplog) -> None:
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    with caplog.at_level(logging.WARNING, "autodeco"):
        load_model(tmp_path / "heads", base_model=base_folder)
    assert caplog.text == ""


def test_no_recorded_base(tmp_path: Path) -> None:
    save_heads(make_heads(), tmp_path)
    with pytest.raises(CheckpointError, match="base_model="):
        load_model(tmp_path)


@pytest.mark.parametrize(("name", "found"), [("hidden_size", 64), ("vocab_size", 100)])
def test_heads_of_another_size_than_the_base(tmp_path: Path, name: str, found: int) -> None:
    tiny_llama().save_pretrained(tmp_path / "base")
    save_heads(make_heads(**{name: found}), tmp_path / "heads")
    needed = {"hidden_size": 32, "vocab_size": 128}[name]
    with pytest.raises(CheckpointError, match=rf"{HEADS}.* {found}.* {needed}"):
        load_model(tmp_path / "heads", base_model=tmp_path / "base")


def damaged(folder: Path, change) -> Path:
    """A heads' folder whose tensors went through ``change``."""
    save_heads(make_heads(), folder)
    tensors = load_file(folder / HEADS)
    change(tensors)
    save_file(tensors, folder / HEADS)
    return folder


def test_missing_tensor(tmp_path: Path) -> None:
    folder = damaged(tmp_path, lambda tensors: tensors.pop("temp_head.mlp.2.bias"))
    with pytest.raises(CheckpointError, match=rf"{HEADS}: 1 head tensors are missing \(temp_head.mlp.2.bias\)"):
        load_heads(folder)


def test_extra_tensor(tmp_path: Path) -> None:
    folder = damaged(tmp_path, lambda tensors: tensors.update({"temp_head.mlp.4.bias": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"do not belong to these heads \(temp_head.mlp.4.bias\)"):
        load_heads(folder)


def test_wrong_shape(tmp_path: Path) -> None:
    folder = damaged(tmp_path, lambda tensors: tensors.update({"temp_head.mlp.0.weight": torch.zeros(256, 31)}))
    with pytest.raises(CheckpointError, match=r"'temp_head.mlp.0.weight' has shape \[256, 31\].*\[256, 32\]"):
        load_heads(folder)


def test_whole_numbers(tmp_path: Path) -> None:
    folder = damaged(
        tmp_path, lambda tensors: tensors.update({"temp_head.mlp.2.bias": torch.zeros(1, dtype=torch.int64)})
    )
    with pytest.raises(CheckpointError, match=r"'temp_head.mlp.2.bias' is of type torch.int64"):
        load_heads(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    folder = damaged(tmp_path, lambda tensors: tensors["top_p_head.mlp.0.weight"][3, 4:6].fill_(value))
    with pytest.raises(CheckpointError, match=r"'top_p_head.mlp.0.weight' has 2 values that are NaN or infinite"):
        load_heads(folder)


def test_broken_heads_are_not_saved_over_good_ones(tmp_path: Path) -> None:
    heads = make_heads()
    save_heads(heads, tmp_path)
    broken = make_heads()
    broken.temp_head.mlp[0].weight.data[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="was not written"):
        save_heads(broken, tmp_path)
    assert_same_tensors(load_heads(tmp_path).state_dict(), heads.state_dict())


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, -1])
def test_truncated_file(tmp_path: Path, kept: int) -> None:
    save_heads(make_heads(), tmp_path)
    (tmp_path / HEADS).write_bytes((tmp_path / HEADS).read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=f"{HEADS}.*cut off"):
        load_heads(tmp_path)


class Surprise:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickle_under_a_safetensors_name_is_not_loaded(tmp_path: Path, save) -> None:
    save_heads(make_heads(), tmp_path)
    save({"surprise": Surprise()}, tmp_path / HEADS)
    with pytest.raises(CheckpointError, match=f"{HEADS}.*PyTorch pickle"):
        load_heads(tmp_path)


def test_git_lfs_pointer(tmp_path: Path) -> None:
    save_heads(make_heads(), tmp_path)
    (tmp_path / HEADS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 75472\n")
    with pytest.raises(CheckpointError, match=f"{HEADS}.*git lfs pull"):
        load_heads(tmp_path)


def test_no_tensors(tmp_path: Path) -> None:
    save_heads(make_heads(), tmp_path)
    (tmp_path / HEADS).unlink()
    with pytest.raises(CheckpointError, match=f"{HEADS} is missing"):
        load_heads(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"hidden_size": 32', "not valid JSON.*line 1"),
        ("[1, 2]", "JSON object.*found list"),
        ("", "not valid JSON"),
        ("\xff\xfe".encode("latin-1"), "not UTF-8"),
    ],
)
def test_malformed_configuration(tmp_path: Path, text: str | bytes, message: str) -> None:
    save_heads(make_heads(), tmp_path)
    (tmp_path / CONFIG).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match=f"{CONFIG}.*{message}"):
        load_heads(tmp_path)


def test_unknown_setting(tmp_path: Path) -> None:
    save_heads(make_heads(), tmp_path)
    edit_json(tmp_path / CONFIG, hiden_size=32)
    with pytest.raises(ConfigError, match=f"{CONFIG}.*unknown setting 'hiden_size'.*'hidden_size'"):
        load_heads(tmp_path)


def test_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"neither {CONFIG} .* nor config.json"):
        load_heads(tmp_path)


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    save_heads(make_heads(), tmp_path)
    with pytest.raises(ModelNotFoundError, match="is a file; give the folder"):
        load_heads(tmp_path / HEADS)


def test_plain_base_model_has_no_heads(base_folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"plain model without decoding heads.*from_base"):
        load_model(base_folder)


def test_full_disk_leaves_the_old_heads(tmp_path: Path, monkeypatch) -> None:
    heads = make_heads()
    save_heads(heads, tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunFolderError, match="disk is full"):
        save_heads(make_heads(), tmp_path)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert_same_tensors(load_heads(tmp_path).state_dict(), heads.state_dict())
