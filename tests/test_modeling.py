import copy
import inspect
import threading

import pytest
import torch
import transformers
from transformers import GenerationConfig

from autodeco import AutoDecoForCausalLM, distribution
from autodeco.config import AutoDecoConfig
from autodeco.errors import CheckpointError, ConfigError
from autodeco.heads import DecodingHeads
from tests.conftest import tiny_autodeco, tiny_llama

COMMON = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
          "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ARCHITECTURES = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Qwen3Moe": {"head_dim": 8, **MOE},
    "GptOss": {"head_dim": 8, **MOE},
    "Gemma3Text": {"head_dim": 8, "final_logit_softcapping": 2.0},
    "Gemma2": {"head_dim": 8, "final_logit_softcapping": 2.0},
    "DeepseekV3": {"num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
                   "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 8,
                   "qk_nope_head_dim": 8, "first_k_dense_replace": 1, "moe_intermediate_size": 16},
    "Granite": {"logits_scaling": 3.0},
    "Cohere": {"logit_scale": 0.25},
    "Mistral": {"head_dim": 8},
    "Phi3": {"pad_token_id": 0},
}  # fmt: skip


def make_base(architecture, **overrides):
    config_class = getattr(transformers, f"{architecture}Config")
    model_class = getattr(transformers, f"{architecture.removesuffix('Text')}ForCausalLM")
    return model_class(config_class(**{**COMMON, **ARCHITECTURES[architecture], **overrides})).eval()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_decodes_by_one_mechanism(architecture, tied):
    base = make_base(architecture, tie_word_embeddings=tied)
    base_class = type(base)
    ids = torch.randint(3, 96, (2, 9))
    with torch.no_grad():
        expected = base(ids).logits
        hidden = base(ids, output_hidden_states=True).hidden_states[-1]
        model = AutoDecoForCausalLM.from_base(base)
        output = model(ids)
    assert isinstance(model, base_class)
    assert output.base_logits.equal(expected)
    torch.testing.assert_close(output.temperature, model.decoding_heads.temperature(hidden), rtol=1e-4, atol=1e-5)
    scaled = expected / output.temperature.unsqueeze(-1)
    inside = output.logits > -5000
    torch.testing.assert_close(output.logits[inside], scaled[inside])
    expected_inside = distribution.nucleus_mask(scaled, output.top_p)
    assert inside.equal(expected_inside)
    assert 0 < inside.float().mean() < 1
    model.check_logit_path(ids[:1])  # soft-capping and scaling are part of compute_logits
    generated = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, trace=True)
    assert generated.temperature.shape[0] == 2


def test_only_the_positions_asked_for_are_computed(model, monkeypatch):
    ids = torch.randint(3, 128, (2, 9))
    seen = []
    model.lm_head.register_forward_hook(lambda *call: seen.append(call[2].shape))
    full = model(ids)
    last = model(ids, logits_to_keep=1)
    assert seen == [(2, 9, 128), (2, 1, 128)]
    assert last.temperature.shape == last.top_p.shape == (2, 1)
    torch.testing.assert_close(last.logits, full.logits[:, -1:])
    assert last.hidden_states is None
    chosen = model(ids, logits_to_keep=torch.tensor([1, 4]))
    torch.testing.assert_close(chosen.temperature, full.temperature[:, [1, 4]])


def test_forward_keeps_the_bases_signature_and_output_forms(model):
    base = tiny_llama()
    assert inspect.signature(model.forward) == inspect.signature(base.forward)
    ids = torch.randint(3, 128, (1, 4))
    as_tuple = model(ids, return_dict=False)
    assert isinstance(as_tuple, tuple)
    torch.testing.assert_close(as_tuple[0], model(ids).logits)
    assert model(ids, labels=ids).loss.isfinite()
    assert model(ids, output_hidden_states=True).hidden_states is not None


def test_mixture_of_experts_fields_survive():
    model = AutoDecoForCausalLM.from_base(make_base("Qwen3Moe"))
    output = model(torch.randint(3, 96, (1, 5)), output_router_logits=True)
    assert output.router_logits is not None
    assert output.temperature is not None


def test_the_base_is_frozen_and_stays_in_evaluation_mode(model):
    model.train()
    assert model.decoding_heads.training
    assert not model.model.training
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all(name.startswith("decoding_heads.") for name in trainable)


def test_disable_heads_gives_the_bare_base(model):
    ids = torch.randint(3, 128, (1, 6))
    shaped = model(ids)
    with model.disable_heads():
        bare = model(ids)
    assert bare.logits.equal(shaped.base_logits)
    assert "temperature" not in bare
    assert model(ids).logits.equal(shaped.logits)


def test_generation_settings_of_the_base_are_not_applied_a_second_time():
    base = tiny_llama()
    base.generation_config = GenerationConfig(
        do_sample=True, temperature=0.6, top_p=0.8, top_k=20, min_p=0.1, eos_token_id=[2, 5], repetition_penalty=1.1
    )
    config = AutoDecoForCausalLM.from_base(base).generation_config
    assert (config.do_sample, config.temperature, config.top_p, config.top_k) == (True, 1.0, 1.0, 0)
    assert config.min_p is None
    assert config.eos_token_id == [2, 5]
    assert config.repetition_penalty == 1.1


def test_heads_of_another_size_are_refused_with_both_values():
    with pytest.raises(CheckpointError, match=r"hidden size 48.*has 32"):
        AutoDecoForCausalLM.from_base(tiny_llama(), heads=DecodingHeads(AutoDecoConfig(hidden_size=48)))
    with pytest.raises(CheckpointError, match=r"vocabulary size 99.*has 128"):
        AutoDecoForCausalLM.from_base(tiny_llama(), heads=DecodingHeads(AutoDecoConfig(hidden_size=32, vocab_size=99)))
    with pytest.raises(CheckpointError, match="has decoding heads already"):
        AutoDecoForCausalLM.from_base(tiny_autodeco())


def test_an_unknown_logit_path_is_noticed(model):
    model.config.logit_scale = 3.0  # as if the base scaled its logits in a way compute_logits gets wrong
    with pytest.raises(ConfigError, match="does not know"):
        model.check_logit_path(torch.randint(3, 128, (1, 5)))


def test_it_is_not_constructed_directly():
    with pytest.raises(TypeError, match="from_base"):
        AutoDecoForCausalLM()


def test_a_deep_copy_is_independent(model):
    ids = torch.randint(3, 128, (1, 4))
    clone = copy.deepcopy(model)
    before = model(ids).temperature
    with torch.no_grad():
        clone.decoding_heads.temp_head.mlp[2].bias.add_(1)
    assert clone(ids).temperature.ne(before).all()
    torch.testing.assert_close(model(ids).temperature, before)


def test_two_threads_can_run_one_model(model):
    inputs = [torch.randint(3, 128, (1, 6)) for _ in range(2)]
    expected = [model(ids).temperature for ids in inputs]
    wrong = []

    def work(index):
        for _ in range(50):
            if not torch.allclose(model(inputs[index]).temperature, expected[index], atol=1e-5):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_torch_compile_gives_the_same_numbers(model):
    ids = torch.randint(3, 128, (1, 6))
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(ids).logits, model(ids).logits)
