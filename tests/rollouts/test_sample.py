from __future__ import annotations

import pytest
import torch

from autodeco import AutoDecoForCausalLM
from autodeco.errors import ConfigError
from autodeco.rollouts.sample import TransformersSampler, batch_seed, plan
from autodeco.rollouts.sampler import Sampling
from autodeco.strategies import save_bank
from tests.conftest import byte_tokenizer, tiny_autodeco, tiny_llama

PROMPTS = [[{"role": "user", "content": text}] for text in ("a", "a longer one", "mid")]


@pytest.fixture
def tokenizer():
    return byte_tokenizer()


@pytest.fixture
def model(tokenizer):
    return tiny_llama(vocab_size=len(tokenizer))


@pytest.fixture
def ending_model(tokenizer):
    """Ends a sequence after a few tokens now and then."""
    model = tiny_llama(vocab_size=len(tokenizer), initializer_range=0.02, tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight[2] *= 20
    return model


def sample(model, tokenizer, prompts, done=frozenset(), on_progress=None, **settings):
    sampler = TransformersSampler(model, tokenizer)
    for batch in sampler.draw(prompts, Sampling(**settings), done=done, on_progress=on_progress):
        yield from batch


def test_shuffled_deals_a_batch_the_same_whatever_was_drawn_before(tokenizer, tmp_path):
    save_bank(tmp_path / "bank.safetensors", torch.linspace(0.3, 1.5, 50), torch.ones(50))
    model = tiny_autodeco(vocab_size=len(tokenizer))
    settings = {"samples_per_prompt": 2, "batch_size": 2, "max_new_tokens": 6, "seed": 0, "trace": True}
    settings |= {"strategy": f"shuffled:bank={tmp_path / 'bank.safetensors'},seed=0"}

    def temperatures(done):
        drawn = list(sample(model, tokenizer, PROMPTS, done, **settings))
        return dict(zip(_keys(drawn), [one.temperature for one in drawn], strict=True))

    whole = temperatures(frozenset())
    longest = {key for key in whole if key[0] == 1}  # its batch comes first
    assert temperatures(longest) == {key: value for key, value in whole.items() if key not in longest}
    assert len({tuple(values) for values in whole.values()}) == len(whole) == 6


def _keys(samples):
    return [(drawn.prompt_index, drawn.sample_index) for drawn in samples]


def test_every_sample_comes_once(model, tokenizer):
    samples = list(sample(model, tokenizer, PROMPTS, samples_per_prompt=5, max_new_tokens=3, batch_size=4))
    assert sorted(_keys(samples)) == [(prompt, index) for prompt in range(3) for index in range(5)]
    assert {drawn.finish for drawn in samples} <= {"stop", "length"}
    assert len({tuple(drawn.completion_ids) for drawn in samples}) > 10


def test_greedy_equals_generate_on_each_prompt_alone(model, tokenizer):
    # 40 tokens: three segments, left-padded prompts, a cache that is repeated and divided.
    samples = sample(
        model, tokenizer, PROMPTS, samples_per_prompt=2, max_new_tokens=40, batch_size=6, strategy="greedy"
    )
    for drawn in samples:
        text = tokenizer.apply_chat_template(
            PROMPTS[drawn.prompt_index], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        alone = model.generate(**text, do_sample=False, max_new_tokens=40, eos_token_id=2, pad_token_id=0)
        assert drawn.prompt_ids == text.input_ids[0].tolist()
        assert drawn.completion_ids == alone[0, text.input_ids.shape[1] :].tolist()


def test_samples_follow_the_models_distribution(model, tokenizer):
    text = tokenizer.apply_chat_template(PROMPTS[0], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        expected = (model(**text).logits[0, -1] / 0.8).softmax(-1)
    drawn = sample(
        model,
        tokenizer,
        PROMPTS[:1],
        samples_per_prompt=4000,
        max_new_tokens=1,
        batch_size=500,
        strategy="static:temperature=0.8",
    )
    counts = torch.bincount(torch.tensor([row.completion_ids[0] for row in drawn]), minlength=len(expected))
    assert (counts / 4000 - expected).abs().sum() < 0.25  # total variation of a fair draw of this size is below that


def test_a_models_own_recommendations_are_off(model, tokenizer):
    for name, value in {"top_k": 1, "min_p": 0.9, "repetition_penalty": 5.0, "temperature": 0.01}.items():
        setattr(model.generation_config, name, value)
    samples = list(sample(model, tokenizer, PROMPTS[:1], samples_per_prompt=20, max_new_tokens=2))
    assert len({tuple(drawn.completion_ids) for drawn in samples}) > 10


def test_samples_end_at_the_end_token(ending_model, tokenizer):
    samples = list(sample(ending_model, tokenizer, PROMPTS, samples_per_prompt=30, max_new_tokens=40, batch_size=90))
    stopped = [drawn for drawn in samples if drawn.finish == "stop"]
    assert len(stopped) > 0
    assert all(drawn.completion_ids.count(2) == 1 and drawn.completion_ids[-1] == 2 for drawn in stopped)
    assert all("<|im_end|>" not in drawn.text for drawn in samples)
    assert all(len(drawn.completion_ids) == 40 for drawn in samples if drawn.finish == "length")


def test_the_seed_decides_and_the_callers_random_state_is_left_alone(ending_model, tokenizer):
    def ids(seed):
        return [row.completion_ids for row in sample(ending_model, tokenizer, PROMPTS, max_new_tokens=20, seed=seed)]

    state = torch.random.get_rng_state()
    assert ids(1) == ids(1) != ids(2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_going_on_gives_the_samples_that_are_missing(ending_model, tokenizer):
    kwargs = {"samples_per_prompt": 3, "max_new_tokens": 20, "batch_size": 3}
    whole = list(sample(ending_model, tokenizer, PROMPTS, **kwargs))
    done = set(_keys(whole)[:4])
    progress = []
    rest = list(
        sample(ending_model, tokenizer, PROMPTS, **kwargs, done=done, on_progress=lambda *p: progress.append(p))
    )
    assert rest == whole[4:]
    assert progress == [(6, 9), (9, 9)]


def test_trace_keeps_temperature_and_top_p_of_each_token(tokenizer):
    model = tiny_autodeco(vocab_size=len(tokenizer))
    drawn = next(sample(model, tokenizer, PROMPTS, max_new_tokens=20, trace=True, strategy="autodeco"))
    assert len(drawn.temperature) == len(drawn.top_p) == len(drawn.completion_ids)
    assert all(0 < value < 2 for value in drawn.temperature)
    ids = torch.tensor([drawn.prompt_ids + drawn.completion_ids])
    with torch.no_grad():
        expected = model(ids).temperature[0, len(drawn.prompt_ids) - 1 : -1]
    torch.testing.assert_close(torch.tensor(drawn.temperature), expected, atol=1e-4, rtol=1e-4)
    assert next(sample(model, tokenizer, PROMPTS, max_new_tokens=2)).temperature is None


def test_heads_that_see_the_prompt_see_the_same_one_in_every_segment(tokenizer):
    base = tiny_llama(vocab_size=len(tokenizer), initializer_range=0.02, tie_word_embeddings=False)
    model = AutoDecoForCausalLM.from_base(base, prompt_summary=True)
    with torch.no_grad():
        for name, parameter in model.decoding_heads.named_parameters():
            parameter.normal_(std=0.3) if ".prompt." in name else parameter.mul_(3)
    settings = {"samples_per_prompt": 3, "max_new_tokens": 40, "batch_size": 9, "trace": True, "strategy": "autodeco"}
    samples = list(sample(model, tokenizer, PROMPTS, **settings))
    lengths = [len(drawn.completion_ids) for drawn in samples]
    assert min(lengths) < 16 < 32 < max(lengths)  # segments of 16: some rows are left out of later ones
    for drawn in samples:
        ids = torch.tensor([drawn.prompt_ids + drawn.completion_ids])
        prompt_mask = torch.arange(ids.shape[1]).unsqueeze(0) < len(drawn.prompt_ids)
        with torch.no_grad():
            expected = model(ids, prompt_mask=prompt_mask).temperature[0, len(drawn.prompt_ids) - 1 : -1]
        torch.testing.assert_close(torch.tensor(drawn.temperature), expected, atol=1e-4, rtol=1e-4)


def test_a_model_without_a_plain_cache_takes_one_call(tokenizer):
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=16, state_size=4, num_hidden_layers=2)
    samples = list(sample(MambaForCausalLM(config).eval(), tokenizer, PROMPTS, samples_per_prompt=2, max_new_tokens=20))
    assert len(samples) == 6


def test_plan_puts_prompts_of_similar_length_together():
    batches = plan([3, 9, 5, 7], samples_per_prompt=2, batch_size=4)
    assert [batch.prompts for batch in batches] == [(1, 3), (2, 0)]
    assert batches[1].members() == [(2, 0), (2, 1), (0, 0), (0, 1)]
    assert [len(batch.members()) for batch in plan([1, 1], samples_per_prompt=5, batch_size=3)] == [3, 2, 3, 2]


def test_batch_seeds_differ():
    assert len({batch_seed(seed, index) for seed in range(20) for index in range(20)}) == 400


def test_bad_settings_are_named(model, tokenizer):
    with pytest.raises(ConfigError, match="batch_size must be at least 1, found 0"):
        next(sample(model, tokenizer, PROMPTS, batch_size=0))
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        next(sample(model, tokenizer, PROMPTS))
