"""Adapters of the last layers alone: the same training from less work."""

import pytest
import torch
from torch import nn

from autodeco import AutoDecoForCausalLM
from autodeco.control.upper_layers import UpperLayers, targets_in
from autodeco.errors import ConfigError
from tests.conftest import tiny_llama
from tests.control.test_adapter_training import weights
from tests.control.test_training import run


@pytest.fixture
def settings(settings):
    return {**settings, "lora_rank": 4, "lora_learning_rate": 5e-3, "sampled_tokens": 3}


@pytest.mark.parametrize("prompt_summary", [False, True], ids=["hidden state", "summary of the prompt"])
def test_trains_what_the_whole_base_would(settings, tmp_path, prompt_summary):
    last_layer = [f"1.self_attn.{name}_proj" for name in "qkvo"] + [
        f"1.mlp.{name}_proj" for name in ("gate", "up", "down")
    ]
    common = {"prompt_summary": prompt_summary}
    whole = run(settings, output=tmp_path / "whole", lora_targets=last_layer, **common)
    upper = run(settings, output=tmp_path / "upper", lora_layers=1, **common)
    for name in ("loss", "base_loss", "temperature_mean"):
        found, expected = ([entry[name] for entry in result.log if name in entry] for result in (upper, whole))
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)
    found, expected = weights(upper.output), weights(whole.output)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5)


def test_lower_layers_run_once_over_a_row(settings, monkeypatch):
    seen = []
    original = nn.Embedding.forward

    def counts(self, input_ids):
        seen.append(input_ids.numel())
        return original(self, input_ids)

    monkeypatch.setattr(nn.Embedding, "forward", counts)
    run(settings, lora_layers=1, max_steps=4)  # 4 steps of 2 of 8 groups: an epoch
    after_an_epoch = sum(seen)
    seen.clear()
    run(settings, lora_layers=1, max_steps=12, output=settings["output"] / "longer")
    assert sum(seen) <= after_an_epoch


def test_targets_are_of_the_last_layers():
    base = tiny_llama()
    assert len(targets_in(base, "all-linear", 1)) == 7
    assert targets_in(base, ["q_proj", "down_proj"], 1) == [
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    ]
    assert len(targets_in(base, "all-linear", 2)) == 14
    with pytest.raises(ConfigError, match="3 of the last layers are to be adapted, and there are 2"):
        targets_in(base, "all-linear", 3)
    with pytest.raises(ConfigError, match=r"none of \['lm_head'\] is a linear layer of the last 1 layers"):
        targets_in(base, ["lm_head"], 1)


def test_layers_that_cannot_be_run_alone_are_refused(tmp_path):
    model = AutoDecoForCausalLM.from_base(tiny_llama())
    original = type(model.base_model).forward

    class Scales(type(model.base_model)):
        """Multiplies what it embeds, as some architectures do."""

        def forward(self, input_ids=None, inputs_embeds=None, **kwargs):
            embedded = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
            return original(self, inputs_embeds=embedded * 30, **kwargs)

    model.base_model.__class__ = Scales
    layers = UpperLayers(model, 1, [4], tmp_path)
    with pytest.raises(ConfigError, match="give other hidden states than the whole model"):
        layers.check(torch.tensor([1, 2, 3, 4]))


def test_a_base_without_one_list_of_layers():
    with pytest.raises(ConfigError, match="Leave lora_layers at 0"):
        targets_in(type("Base", (), {"base_model": nn.Linear(1, 1)})(), "all-linear", 1)


def test_layers_without_a_rank(settings):
    with pytest.raises(ConfigError, match="lora_rank is 0"):
        run(settings, lora_rank=0, lora_layers=1)


def test_a_prompt_after_a_layer_that_the_adapter_changes(settings):
    with pytest.raises(ConfigError, match="with an adapter, leave it at 0"):
        run(settings, prompt_summary=True, prompt_layer=1)
