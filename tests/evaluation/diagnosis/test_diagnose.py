"""The diagnosis on planted data: heads that adapt, heads that do not, and every number against plain loops."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import optimize

from autodeco import AutoDecoConfig
from autodeco.errors import DataError
from autodeco.evaluation.diagnosis import (
    Chunk,
    Constants,
    Diagnosis,
    conclusion,
    diagnose,
    diagnose_store,
    run,
    verdict,
)
from autodeco.heads import DecodingHeads
from autodeco.training.hidden_states import HiddenStateStore, RowStates, StoredDataset, StoreIdentity, fill_store
from autodeco.training.tokenize import TokenizedRow

HIDDEN, VOCAB = 8, 20


def planted_heads(slope=2.0, *, top_p=True):
    """Heads whose T depends on the first hidden dimension: T = 2 sigmoid(slope · h_0), whatever the others."""
    heads = DecodingHeads(AutoDecoConfig(hidden_size=HIDDEN, vocab_size=VOCAB, top_p_head=top_p))
    layers = heads.temp_head.mlp
    with torch.no_grad():
        for parameter in heads.temp_head.parameters():
            parameter.zero_()
        layers[0].weight[0, 0], layers[0].weight[1, 0] = 1, -1  # relu(h) - relu(-h) = h
        layers[2].weight[0, 0], layers[2].weight[0, 1] = slope, -slope
        layers[2].bias.fill_(-0.5)
        if top_p:
            heads.top_p_head.mlp[2].bias.fill_(2.0)
    return heads.eval().requires_grad_(False)


def planted(temperature_of, *, tokens=6000, per_trajectory=20, seed=0):
    """Hidden states, ``lm_head`` and targets that are drawn at the given temperatures."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, HIDDEN, generator=generator)
    weight = torch.randn(VOCAB, HIDDEN, generator=generator)
    weight[:, 0] = 0  # what T depends on says nothing else
    probabilities = (hidden @ weight.T / temperature_of(hidden)[:, None]).softmax(-1)
    targets = probabilities.multinomial(1, generator=generator)[:, 0].int()
    trajectories = torch.arange(tokens) // per_trajectory
    chunks = [
        Chunk(hidden[at : at + 1000], targets[at : at + 1000], trajectories[at : at + 1000])
        for at in range(0, tokens, 1000)
    ]
    return chunks, weight


def test_heads_that_draw_as_the_data_was_drawn_adapt():
    heads = planted_heads()
    chunks, weight = planted(heads.temperature)
    found = diagnose(chunks, heads, weight, data="planted", resamples=500)
    assert found.overall.heads_over_constant.low > 0.01
    assert found.overall.heads_over_mean.low > 0.01
    assert found.overall.share.low > 0.05
    assert found.alignment.low > 0.05
    # Entropy at T = 1 does not know the planted temperature.
    assert abs(found.overall.fifths_over_constant.value) < 0.2 * found.overall.heads_over_constant.value
    assert "the heads adapt" in conclusion(found)
    assert sum(group.tokens for group in found.quintiles) == found.overall.tokens == 6000
    assert [group.tokens for group in found.quintiles] == [1200] * 5
    edges = [edge for group in found.quintiles for edge in group.entropy]
    assert edges == sorted(edges)


def test_heads_that_vary_without_need_are_worse_than_a_constant():
    heads = planted_heads()
    chunks, weight = planted(lambda hidden: torch.full((len(hidden),), 0.7))
    found = diagnose(chunks, heads, weight, data="planted", resamples=500)
    assert found.constants.temperature == pytest.approx(0.7, abs=0.02)
    assert found.overall.heads_over_constant.high < 0
    assert abs(found.alignment.value) < 0.05
    assert "worse than a constant" in conclusion(found)


def test_a_constant_head_is_no_better_than_a_constant():
    heads = planted_heads(slope=0.0)
    constant = 2 / (1 + math.exp(0.5))
    chunks, weight = planted(lambda hidden: torch.full((len(hidden),), constant))
    found = diagnose(chunks, heads, weight, data="planted", resamples=500)
    assert found.alignment is None
    assert found.overall.heads_over_mean.value == pytest.approx(0, abs=1e-6)
    assert -0.002 < found.overall.heads_over_constant.value <= 1e-6
    assert found.spread == pytest.approx(0, abs=1e-6)
    assert "no better than a constant" in conclusion(found) or "worse" in conclusion(found)
    assert "nothing to align" in verdict(found)


def test_every_figure_is_that_of_plain_loops():
    heads = planted_heads()
    chunks, weight = planted(heads.temperature, tokens=400)
    found = diagnose(chunks, heads, weight, data="planted", resamples=200)
    hidden = torch.cat([chunk.hidden_states for chunk in chunks])
    targets = torch.cat([chunk.targets for chunk in chunks]).long()
    logits = (hidden @ weight.T).double()
    temperature = heads.temperature(hidden).clamp(min=heads.config.min_temperature).double()  # as it divides

    def log_p(values):
        return (logits / values[:, None]).log_softmax(-1)[torch.arange(400), targets]

    def total(value):
        return -float(log_p(torch.full((400,), value, dtype=torch.float64)).sum())

    best = optimize.minimize_scalar(total, bounds=(0.05, 2), method="bounded", options={"xatol": 1e-8})
    mean = float(temperature.mean())
    own_best = []
    for at in range(400):
        one = optimize.minimize_scalar(
            lambda value, at=at: -float((logits[at] / value).log_softmax(-1)[targets[at]]),
            bounds=(min(0.05, float(temperature[at])), 2),
            method="bounded",
            options={"xatol": 1e-10},
        )
        own_best.append(-one.fun)
    overall = found.overall
    at_constant = -best.fun / 400
    assert found.constants.temperature == pytest.approx(best.x, abs=2e-3)
    assert found.constants.mean_temperature == pytest.approx(mean)
    assert overall.default.value == pytest.approx(float(log_p(torch.ones(400)).mean()), abs=1e-6)
    gain = float(log_p(temperature).mean()) - at_constant
    assert overall.heads_over_constant.value == pytest.approx(gain, abs=2e-6)
    over_mean = float(log_p(temperature).mean()) + total(mean) / 400
    assert overall.heads_over_mean.value == pytest.approx(over_mean, abs=2e-6)
    assert overall.optimum_over_constant.value == pytest.approx(np.mean(own_best) - at_constant, abs=1e-4)
    assert overall.share.value == pytest.approx(gain / (np.mean(own_best) - at_constant), rel=2e-3)
    nearby = torch.full((400,), mean, dtype=torch.float64)
    slope = (log_p(nearby + 1e-5) - log_p(nearby - 1e-5)) / 2e-5
    assert found.alignment.value == pytest.approx(np.corrcoef(temperature, slope)[0, 1], abs=1e-4)


def test_nucleus_is_that_of_a_sort():
    heads = planted_heads()
    with torch.no_grad():
        heads.top_p_head.mlp[0].weight[0].zero_()
        heads.top_p_head.mlp[0].weight[0, 0] = 1
        heads.top_p_head.mlp[2].weight[0, 0] = 1.5
    chunks, weight = planted(heads.temperature, tokens=300)
    found = diagnose(chunks, heads, weight, data="planted", resamples=200).nucleus
    outside, masses, thresholds = [], [], []
    for chunk in chunks:
        logits = chunk.hidden_states @ weight.T
        shaped = heads.shape(chunk.hidden_states, logits)
        probabilities = (logits / shaped.temperature[:, None]).softmax(-1)
        for row, target, threshold in zip(probabilities.double(), chunk.targets, shaped.top_p, strict=True):
            kept, mass = set(), 0.0
            for token in row.argsort(descending=True).tolist():
                kept.add(token)
                mass += float(row[token])
                if mass >= threshold:
                    break
            outside.append(int(target) not in kept)
            masses.append(math.log(mass))
            thresholds.append(float(threshold))
    assert found.outside_heads.value == pytest.approx(np.mean(outside))
    assert found.log_mass_heads.value == pytest.approx(np.mean(masses), abs=1e-5)
    assert found.spread == pytest.approx(np.std(thresholds), abs=1e-5)
    assert 0 < found.outside_heads.value < 0.5
    assert found.outside_difference.value == pytest.approx(found.outside_heads.value - found.outside_constant.value)


def test_pieces_callable_and_given_constants_make_no_difference(monkeypatch):
    heads = planted_heads()
    chunks, weight = planted(heads.temperature, tokens=2000)
    whole = diagnose(chunks, heads, weight, data="planted", resamples=100)
    monkeypatch.setattr(run, "_PIECE_ELEMENTS", 37 * VOCAB)
    pieces = diagnose(chunks, heads, lambda hidden: hidden @ weight.T, data="planted", resamples=100)
    assert pieces.overall.heads_over_constant.value == pytest.approx(whole.overall.heads_over_constant.value, abs=1e-6)
    given = Constants(0.5, 0.6, 0.9, "training data")
    other = diagnose(chunks, heads, weight, data="planted", constants=given, resamples=100)
    assert other.constants == given
    assert other.overall.heads_over_constant.value > whole.overall.heads_over_constant.value
    assert "chosen on training data" in verdict(other)


def test_interval_covers_over_trajectories():
    heads = planted_heads()
    gains = []
    for seed in range(40):
        chunks, weight = planted(heads.temperature, tokens=400, seed=seed)
        found = diagnose(chunks, heads, weight, data="planted", constants=Constants(0.8, 0.8, 0.88, "-"), resamples=200)
        gains.append(found.overall.heads_over_constant)
    half_widths = [(gain.high - gain.low) / 2 for gain in gains]
    # Each seed has its own lm_head, so the true gain differs too; the spread of estimates is at least the noise's.
    assert np.mean(half_widths) == pytest.approx(2.09 * np.std([gain.value for gain in gains]), rel=0.5)


def test_store_json_and_words(tmp_path):
    heads = planted_heads()
    chunks, weight = planted(heads.temperature, tokens=600)
    store = HiddenStateStore(tmp_path, StoreIdentity("tiny", None, "0", "float32", "t", "c", HIDDEN))
    states = torch.cat([chunk.hidden_states for chunk in chunks]).split(20)
    targets = torch.cat([chunk.targets for chunk in chunks]).split(20)
    rows = [TokenizedRow(f"row {at}", [0, *own.tolist()], 1) for at, own in enumerate(targets)]
    for first in (0, 10, 20):
        span = slice(first, first + 10)
        store.write(rows[span], [RowStates(*pair) for pair in zip(states[span], targets[span], strict=True)])
    found = diagnose_store(store, heads, weight, resamples=100)
    assert (found.trajectories, found.overall.tokens, found.data) == (30, 600, "30 stored trajectories of tiny")
    exact = diagnose(chunks, heads, weight, data="planted", resamples=100)
    assert found.overall.heads_over_constant.value == pytest.approx(exact.overall.heads_over_constant.value, abs=0.01)
    assert diagnose_store(store, heads, weight, rows=[3, 5], resamples=100).overall.tokens == 40
    path = tmp_path / "diagnosis.json"
    found.write(path)
    assert Diagnosis.read(path) == found
    path.write_text(json.dumps({"data": "x"}))
    with pytest.raises(DataError, match="not a diagnosis"):
        Diagnosis.read(path)
    with pytest.raises(DataError, match="not a diagnosis"):
        Diagnosis.read(tmp_path / "absent.json")


def test_a_store_with_whole_prompts_gives_heads_their_summary_and_others_the_completions(tmp_path, model):
    model.decoding_heads = model.decoding_heads.with_prompt_summary().requires_grad_(False)
    heads = model.decoding_heads
    torch.manual_seed(0)
    for head in (heads.temp_head, heads.top_p_head):
        head.prompt.up.normal_(0, 0.1)
    lengths = [(9, 4), (14, 1), (12, 7), (11, 9)]
    rows = [TokenizedRow(f"row {n}", torch.randint(3, 128, (n,)).tolist(), prompt) for n, prompt in lengths]
    stores = {}
    for prompts in (False, True):
        identity = StoreIdentity("tiny", None, "0", "float32", "t", "c", 32, prompts=prompts)
        stores[prompts] = HiddenStateStore(tmp_path / str(prompts), identity)
        fill_store(stores[prompts], model, rows)
    weight = model.get_output_embeddings().weight
    temperatures = []
    for row, stored in zip(rows, StoredDataset(stores[True]), strict=True):
        summary = heads.summarise_prompt(stored["prompt_states"].unsqueeze(0), torch.ones(1, row.prompt_length))
        temperatures.append(heads.temperature(heads.input_of(stored["hidden_states"], summary)).clamp(min=0.01))
    found = diagnose_store(stores[True], heads, weight, resamples=50)
    assert found.overall.tokens == sum(n - prompt for n, prompt in lengths)
    assert found.overall.heads_temperature == pytest.approx(torch.cat(temperatures).mean().item(), abs=1e-5)
    with pytest.raises(DataError, match="of completions alone"):
        diagnose_store(stores[False], heads, weight)
    plain = DecodingHeads(AutoDecoConfig(hidden_size=32)).requires_grad_(False)
    overall = [diagnose_store(store, plain, weight, resamples=50).overall for store in stores.values()]
    assert overall[0] == overall[1]


def test_temperature_head_alone_has_no_nucleus():
    heads = planted_heads(top_p=False)
    chunks, weight = planted(heads.temperature, tokens=200)
    assert diagnose(chunks, heads, weight, data="planted", resamples=50).nucleus is None


def test_what_cannot_be_diagnosed():
    heads = planted_heads()
    chunks, weight = planted(heads.temperature, tokens=40)
    with pytest.raises(DataError, match="re-iterable"):
        diagnose(iter(chunks), heads, weight, data="planted")
    with pytest.raises(DataError, match="no tokens"):
        diagnose([], heads, weight, data="planted")
    one = [Chunk(chunk.hidden_states, chunk.targets, torch.zeros_like(chunk.trajectories)) for chunk in chunks]
    with pytest.raises(DataError, match="two trajectories"):
        diagnose(one, heads, weight, data="planted")


def test_a_models_own_logits_from_stored_states(model):
    chunk = Chunk(torch.randn(60, 32).bfloat16(), torch.randint(0, 128, (60,)), torch.arange(60) // 10)
    weight = model.get_output_embeddings().weight
    by_function = diagnose(
        [chunk], model.decoding_heads, lambda hidden: model.compute_logits(hidden.float()), data="x", resamples=50
    )
    by_weight = diagnose([chunk], model.decoding_heads, weight, data="x", resamples=50)
    assert by_function.overall == by_weight.overall
    assert by_function.overall.tokens == 60


def test_a_resample_in_which_the_optimum_gains_nothing_has_no_share(tmp_path):
    # Targets by chance: in fifths of 20 tokens some resamples have the constant as their tokens' optimum. With this
    # seed two fifths do, and their shares' intervals were NaN, which JSON does not have.
    torch.manual_seed(2)
    heads = DecodingHeads(AutoDecoConfig(hidden_size=4, vocab_size=9)).requires_grad_(False)
    chunk = Chunk(torch.randn(100, 4), torch.randint(0, 9, (100,)), torch.arange(100) // 10)
    found = diagnose([chunk], heads, torch.randn(9, 4), data="chance", resamples=50)
    shares = [group.share for group in found.quintiles if group.share is not None]
    assert len(shares) >= 2
    assert all(math.isfinite(share.low) and share.low <= share.value <= share.high for share in shares)
    found.write(tmp_path / "diagnosis.json")
    assert Diagnosis.read(tmp_path / "diagnosis.json") == found
