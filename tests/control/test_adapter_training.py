"""Joint training of a LoRA adapter with the heads, on a tiny base."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import inspect
from autodeco.checkpoint.adapter import adapter_disabled, adapter_parameters
from autodeco.control.config import control_config
from autodeco.control.trainer import AdapterControlTrainer
from autodeco.errors import CheckpointError, ConfigError, MissingDependencyError
from autodeco.training.run import base_checksum
from tests.control.test_training import interrupt, run

INPUT_IDS = torch.tensor([[1, 45, 90, 60, 33, 77, 80, 120]])


@pytest.fixture
def settings(settings):
    return {**settings, "lora_rank": 4, "lora_learning_rate": 5e-3}


def weights(folder):
    return {**load_file(folder / "adapter_model.safetensors"), **load_file(folder / "autodeco_heads.safetensors")}


SUMMARY = pytest.mark.parametrize("prompt_summary", [False, True], ids=["hidden state", "summary of the prompt"])


@SUMMARY
def test_a_run_saves_one_folder_with_heads_and_adapter_that_gives_what_was_trained(
    settings, monkeypatch, prompt_summary
):
    trained = []
    original = AdapterControlTrainer.train

    def keeps_the_model(self, *args, **kwargs):
        trained.append(self.model)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AdapterControlTrainer, "train", keeps_the_model)
    result = run(settings, prompt_summary=prompt_summary)
    entry = result.log[-2]
    assert {"base_loss", "decoding_loss", "temperature_ranking_loss"} <= entry.keys()
    assert result.log[0]["base_loss"] == pytest.approx(0, abs=1e-6)  # B is 0 at the first step
    assert entry["base_loss"] > 0
    assert not (settings["output"] / "hidden_states").exists()
    loaded = AutoDecoForCausalLM.from_pretrained(result.output)
    prompt = {"prompt_mask": torch.arange(INPUT_IDS.shape[1]).unsqueeze(0) < 3} if prompt_summary else {}
    with torch.no_grad():
        expected, found = trained[0].eval()(INPUT_IDS, **prompt), loaded(INPUT_IDS, **prompt)
    for name in ("base_logits", "logits", "temperature", "top_p"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-6)
    if prompt_summary:
        with torch.no_grad():
            assert not found.temperature.allclose(loaded(INPUT_IDS).temperature)  # of another prompt
    record = json.loads((settings["output"] / "autodeco_run.json").read_text())
    base = AutoDecoForCausalLM.from_base(settings["model"])
    assert record["base_checksum"] == base_checksum(base)
    assert inspect(result.output).adapter.rank == 4
    with torch.no_grad(), adapter_disabled(loaded):
        assert loaded(INPUT_IDS).base_logits.equal(base(INPUT_IDS).base_logits)


@SUMMARY
def test_gradients_reach_every_layer_of_the_adapter_and_the_heads_alone(settings, monkeypatch, prompt_summary):
    seen = {}
    original = AdapterControlTrainer.compute_loss

    def keeps_gradients(self, model, inputs, **kwargs):
        loss = original(self, model, inputs, **kwargs)
        if self.state.global_step == 1:  # after a step: A has no gradient while B is 0
            seen.update(zip(*gradients_of(model, loss), strict=True))
        return loss

    def gradients_of(model, loss):
        names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
        return names, torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)

    monkeypatch.setattr(AdapterControlTrainer, "compute_loss", keeps_gradients)
    run(settings, max_steps=2, prompt_summary=prompt_summary)
    assert all(".lora_" in name or name.startswith("decoding_heads.") for name in seen)
    assert sum(".lora_" in name for name in seen) == 2 * 2 * 7
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in seen.values())


def test_the_adapter_alone_separates_commands(settings):
    """Heads that hardly move: what the ranking loss falls by is the adapter's work."""
    changes = {"commands_per_prompt": {"low": 1, "high": 1}, "decoding_weight": 0, "max_steps": 60}
    log = run(settings, learning_rate=1e-9, base_weight=0, lora_learning_rate=1e-2, **changes).log
    losses = [entry["temperature_ranking_loss"] for entry in log if "temperature_ranking_loss" in entry]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_the_base_loss_holds_the_token_distribution(settings, tmp_path):
    changes = {"commands_per_prompt": {"low": 1, "high": 1}, "decoding_weight": 0, "max_steps": 40}
    moved = []
    for weight in (0, 100):
        output = run(settings, base_weight=weight, output=tmp_path / str(weight), **changes)
        moved.append(sum(entry.get("base_loss", 0) for entry in output.log[-11:]))
    assert moved[1] < 0.3 * moved[0]


@SUMMARY
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(settings, tmp_path, monkeypatch, prompt_summary):
    settings["prompt_summary"] = prompt_summary
    whole = run(settings, output=tmp_path / "whole")
    interrupt(monkeypatch, settings)
    checkpoint = settings["output"] / "checkpoint-3"
    assert {"adapter_model.safetensors", "adapter_config.json"} <= {path.name for path in checkpoint.iterdir()}
    resumed = run(settings)
    assert resumed.resumed_from == 3
    expected = weights(whole.output)
    assert any("lora_B" in name and tensor.abs().sum() > 0 for name, tensor in expected.items())
    for name, tensor in weights(resumed.output).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    assert run(settings).data is None  # finished


def test_heads_and_adapter_have_learning_rates_of_their_own(settings, monkeypatch):
    rates = {}
    original = AdapterControlTrainer.create_optimizer

    def looks(self, *args):
        optimizer = original(self, *args)
        adapter = {id(parameter) for parameter in adapter_parameters(self.model)}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert rates.setdefault(id(parameter) in adapter, group["lr"]) == group["lr"]
        assert sum(len(group["params"]) for group in optimizer.param_groups) == 2 * 2 * 7 + 8
        return optimizer

    monkeypatch.setattr(AdapterControlTrainer, "create_optimizer", looks)
    run(settings, max_steps=1)
    assert rates == {True: 5e-3, False: 1e-2}


def test_training_from_heads_keeps_them_and_an_adapter_is_no_start(settings, tmp_path, base_folder):
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    first = run(settings, heads=str(tmp_path / "heads"), eval_data=settings["data"], eval_steps=3)
    assert any("temperature_keep_loss" in entry for entry in first.log)
    assert sum("eval_loss" in entry for entry in first.log) == 2
    with pytest.raises(CheckpointError, match="trained together with a LoRA adapter"):
        run(settings, heads=str(first.output), output=tmp_path / "second")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_state_store": "on"}, "hidden_state_store must be off"),
        ({"lora_rank": -1}, "lora_rank: found -1"),
        ({"lora_alpha": 0}, "lora_alpha: found 0"),
        ({"lora_targets": "every"}, "lora_targets"),
        ({"lora_rnak": 1}, "Did you mean 'lora_rank'"),
    ],
)
def test_bad_settings(settings, changes, message):
    with pytest.raises(ConfigError, match=message):
        control_config({**settings, **changes}, "control.yaml")


def test_targets_that_the_model_does_not_have(settings):
    with pytest.raises(ConfigError, match="Linear layers of this model: "):
        run(settings, lora_targets=["query"])
    assert not settings["output"].exists()


def test_without_peft_nothing_is_begun(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError, match=r"autodeco\[lora\]"):
        run(settings)
    assert not settings["output"].exists()
    monkeypatch.undo()
    run(settings)
