"""Transformers' own generate, unmodified, in each of its modes."""

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from autodeco import AutoDecoForCausalLM
from tests.conftest import tiny_autodeco, tiny_llama

PROMPT = torch.tensor([[5, 17, 99, 23, 42]])
MASK = torch.ones_like(PROMPT)


def generate(model, ids=PROMPT, mask=None, **kwargs):
    torch.manual_seed(7)
    return model.generate(ids, attention_mask=torch.ones_like(ids) if mask is None else mask, **kwargs)


def exact_next_distribution(model, ids):
    """The heads' and the nucleus' definition on the base's logits, in float64, without the package's code."""
    output = model(ids)
    logits = output.base_logits[0, -1].double().numpy()
    temperature, top_p = output.temperature[0, -1].item(), output.top_p[0, -1].item()
    p = np.exp((logits - logits.max()) / temperature)
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(p[order])[:-1]])
    kept = np.zeros_like(p)
    kept[order[before < top_p]] = p[order[before < top_p]]
    return kept / kept.sum()


@pytest.mark.parametrize("seed", [0, 1])
def test_sampling_frequencies_match_the_exact_distribution(seed):
    torch.manual_seed(seed)
    model = tiny_autodeco()
    with torch.no_grad():  # a nucleus of many tokens, so that the test has something to see
        model.decoding_heads.top_p_head.mlp[2].bias.add_(2.5)
    expected = exact_next_distribution(model, PROMPT)
    assert 3 < (expected > 0).sum() < 128
    draws = 20_000
    sequences = generate(model, PROMPT.expand(2000, -1), max_new_tokens=1, num_return_sequences=10)
    counts = np.bincount(sequences[:, -1].numpy(), minlength=128)
    assert counts.sum() == draws
    assert counts[expected == 0].sum() == 0
    # Tokens expected fewer than five times are counted as one cell, as the chi-square test needs.
    common = expected * draws >= 5
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum()) * draws
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    assert stats.chisquare(observed, wanted).pvalue > 0.001


def test_greedy_is_the_bases_greedy(model):
    ours = generate(model, do_sample=False, max_new_tokens=20)
    with model.disable_heads():
        base = generate(model, do_sample=False, max_new_tokens=20)
    assert ours.equal(base)


def test_a_users_temperature_multiplies_the_learned_one(model):
    result = generate(model, max_new_tokens=1, temperature=2.0, output_scores=True, return_dict_in_generate=True)
    shaped = model(PROMPT).logits[:, -1]
    torch.testing.assert_close(result.scores[0], shaped / 2)


def test_beams(model):
    output = generate(model, num_beams=4, do_sample=False, max_new_tokens=8, trace=True, num_return_sequences=2)
    assert output.sequences.shape[0] == output.temperature.shape[0] == 2
    expected = model(output.sequences).temperature[:, PROMPT.shape[1] - 1 : -1]
    alive = ~output.temperature.isnan()
    torch.testing.assert_close(output.temperature[alive], expected[alive], rtol=1e-4, atol=1e-5)


def test_left_padded_rows_decode_as_they_would_alone(model):
    alone = generate(model, do_sample=False, max_new_tokens=6, trace=True)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), PROMPT], dim=1)
    other = torch.randint(3, 128, (1, 8))
    mask = torch.cat([(padded != 0).long(), torch.ones(1, 8, dtype=torch.long)])
    both = generate(model, torch.cat([padded, other]), mask, do_sample=False, max_new_tokens=6, trace=True)
    n = alone.temperature.shape[1]
    assert both.sequences[0, 8 : 8 + n].equal(alone.sequences[0, 5:])
    torch.testing.assert_close(both.temperature[0, :n], alone.temperature[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cache", ["static", "dynamic"])
def test_caches(model, cache):
    with_cache = generate(model, do_sample=False, max_new_tokens=8, cache_implementation=cache, trace=True)
    without = generate(model, do_sample=False, max_new_tokens=8, use_cache=False, trace=True)
    assert with_cache.sequences.equal(without.sequences)
    torch.testing.assert_close(with_cache.temperature, without.temperature, rtol=1e-4, atol=1e-5)


def test_trace_is_what_teacher_forcing_gives(model):
    output = generate(model, max_new_tokens=12, min_new_tokens=12, trace=True)
    forced = model(output.sequences)
    torch.testing.assert_close(output.temperature, forced.temperature[:, 4:-1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.top_p, forced.top_p[:, 4:-1], rtol=1e-4, atol=1e-5)


def test_trace_of_a_prompt_read_in_chunks(model):
    whole = generate(model, do_sample=False, max_new_tokens=5, trace=True)
    chunked = generate(model, do_sample=False, max_new_tokens=5, trace=True, prefill_chunk_size=2)
    torch.testing.assert_close(whole.temperature, chunked.temperature, rtol=1e-4, atol=1e-5)


def test_trace_ends_where_a_sequence_ends():
    model = tiny_autodeco()
    first = generate(model, do_sample=False, max_new_tokens=1)[0, -1].item()
    output = generate(
        model,
        torch.cat([PROMPT, torch.randint(3, 128, (1, 5))]),
        do_sample=False,
        max_new_tokens=6,
        eos_token_id=first,
        pad_token_id=0,
        trace=True,
    )
    assert output.temperature[0].isnan().tolist() == [False] + [True] * (output.temperature.shape[1] - 1)
    assert not output.temperature[1, 0].isnan()


def test_trace_follows_generation_config_objects(model):
    config = GenerationConfig(num_beams=2, max_new_tokens=4, do_sample=False)
    output = model.generate(PROMPT, generation_config=config, attention_mask=MASK, trace=True)
    expected = model(output.sequences).temperature[:, 4:-1]
    alive = ~output.temperature.isnan()
    torch.testing.assert_close(output.temperature[alive], expected[alive], rtol=1e-4, atol=1e-5)


class _Collector(BaseStreamer):
    def __init__(self):
        self.tokens = []

    def put(self, value):
        self.tokens.extend(value.reshape(-1).tolist())

    def end(self):
        pass


def test_streaming(model):
    collector = _Collector()
    output = generate(model, max_new_tokens=6, streamer=collector)
    assert collector.tokens == output[0].tolist()


@pytest.mark.parametrize("do_sample", [False, True])
def test_assisted_generation(model, do_sample):
    assistant = tiny_llama(num_hidden_layers=1)
    assistant.generation_config.num_assistant_tokens = 3
    output = generate(model, do_sample=do_sample, max_new_tokens=10, assistant_model=assistant, trace=True)
    if not do_sample:
        plain = generate(model, do_sample=False, max_new_tokens=10)
        assert output.sequences.equal(plain)
    expected = model(output.sequences).temperature[:, 4:-1]
    torch.testing.assert_close(output.temperature, expected, rtol=1e-4, atol=1e-5)


def test_assisted_sampling_never_leaves_the_nucleus():
    model = tiny_autodeco()
    assistant = tiny_llama(num_hidden_layers=1)
    for seed in range(5):
        torch.manual_seed(seed)
        tokens = model.generate(PROMPT, attention_mask=MASK, max_new_tokens=12, assistant_model=assistant)
        logits = model(tokens).logits[0, 4:-1]
        assert (logits.gather(-1, tokens[0, 5:].unsqueeze(-1)) > -5000).all()


def test_prompt_lookup(model):
    plain = generate(model, do_sample=False, max_new_tokens=10)
    assert generate(model, do_sample=False, max_new_tokens=10, prompt_lookup_num_tokens=3).equal(plain)


def test_bad_words_may_forbid_the_whole_nucleus():
    model = tiny_autodeco()
    with torch.no_grad():
        model.decoding_heads.top_p_head.mlp[2].bias.fill_(-50)  # a nucleus of one token
    best = model(PROMPT).logits[0, -1].argmax().item()
    output = generate(model, max_new_tokens=1, bad_words_ids=[[best]], output_scores=True, return_dict_in_generate=True)
    assert output.sequences[0, -1] != best
    assert not output.scores[0].isnan().any()


def test_allowed_tokens_outside_the_nucleus_are_drawn_in_proportion():
    model = tiny_autodeco()
    with torch.no_grad():
        model.decoding_heads.top_p_head.mlp[2].bias.fill_(-50)
    output = model(PROMPT)
    ranking = output.base_logits[0, -1].argsort(descending=True)
    allowed = ranking[3:6].tolist()  # none of them in the nucleus
    sequences = generate(model, PROMPT.expand(2000, -1), max_new_tokens=1, prefix_allowed_tokens_fn=lambda *_: allowed)
    counts = np.array([(sequences[:, -1] == token).sum().item() for token in allowed])
    assert counts.sum() == 2000
    scaled = output.base_logits[0, -1, allowed] / output.temperature[0, -1]
    assert stats.chisquare(counts, scaled.detach().double().softmax(-1).numpy() * 2000).pvalue > 0.001


def test_stop_strings(tokenizer):
    model = tiny_autodeco(vocab_size=len(tokenizer))
    letters = tokenizer("abcdefghijklmnopqrstuvwxyz", add_special_tokens=False).input_ids
    settings = {"do_sample": False, "max_new_tokens": 10, "prefix_allowed_tokens_fn": lambda *_: letters}
    tokens = generate(model, **settings)[0, 5:].tolist()
    stop = tokenizer.decode(tokens[2:4])
    output = generate(model, stop_strings=[stop], tokenizer=tokenizer, **settings)
    assert tokenizer.decode(output[0, 5:]) == tokenizer.decode(tokens).partition(stop)[0] + stop


def test_half_precision_base_gives_no_nan():
    model = AutoDecoForCausalLM.from_base(tiny_llama().bfloat16())
    output = generate(model, max_new_tokens=8, trace=True, output_logits=True)
    assert all(torch.isfinite(step).all() for step in output.logits)
