import math

import pytest
import torch
from safetensors.torch import load_file

from autodeco.config import AutoDecoConfig
from autodeco.distribution import probability_statistics
from autodeco.heads import DecodingHeads
from autodeco.objectives import eager

OBJECTIVES = [eager.released, eager.end_to_end]


def make_case(dtype=torch.float32, vocab_size=40, hidden_size=12, length=9, spread=3.0, **settings):
    heads = DecodingHeads(AutoDecoConfig(hidden_size=hidden_size, mlp_hidden_size=16, **settings)).to(dtype)
    hidden = torch.randn(2, length, hidden_size, dtype=dtype)
    weight = torch.randn(vocab_size, hidden_size, dtype=dtype) * spread / hidden_size**0.5
    labels = torch.randint(0, vocab_size, (2, length))
    labels[0, :3] = -100
    return heads, hidden, weight, labels


@pytest.mark.parametrize("name", ["small", "wide"])
def test_released_matches_the_authors_losses_and_every_gradient(golden, name):
    case = load_file(golden / f"released_objective_{name}.safetensors")
    heads = DecodingHeads(AutoDecoConfig(hidden_size=case["hidden_states"].shape[-1]))
    heads.load_state_dict({k: v for k, v in case.items() if k.startswith(("temp_head.", "top_p_head."))})
    output = eager.released(heads, case["hidden_states"], case["lm_head_weight"], case["labels"], case["rand_vals"])
    output.loss.backward()
    torch.testing.assert_close(output.temperature_loss, case["temp_loss"][0], rtol=1e-5, atol=0)
    torch.testing.assert_close(output.top_p_loss, case["top_p_loss"][0], rtol=1e-5, atol=0)
    valid = case["labels"][:, 1:] != -100
    torch.testing.assert_close(output.temperature, case["temperature"][:, :-1][valid], rtol=1e-5, atol=0)
    torch.testing.assert_close(output.top_p, case["top_p"][:, :-1][valid], rtol=1e-5, atol=0)
    for name, parameter in heads.named_parameters():
        expected = case[f"grad.{name}"]
        # Relative to the tensor's largest entry: an entry that cancels to almost nothing has no digits to compare.
        error = (parameter.grad - expected).abs().max() / expected.abs().max()
        assert error < 1e-5, f"{name}: {error:.2e}"


@pytest.mark.parametrize("soft_nucleus", ["inclusive", "exclusive"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_pass_gradcheck(objective, soft_nucleus):
    heads, hidden, weight, labels = make_case(torch.float64, vocab_size=11, hidden_size=5, length=4)
    draws = torch.rand(2, 3, dtype=torch.float64)
    names = [name for name, _ in heads.named_parameters()]
    detached = []  # T and statistics as the top-p head takes them: no gradient is to flow there, so they stand still

    def loss(*values):
        parameters = dict(zip(names, values, strict=True))
        original = heads.temperature, heads.top_p

        # The heads' own functions with the given parameters in place of theirs.
        def call(method, *args):
            return torch.func.functional_call(
                _Method(heads, method), {f"heads.{k}": v for k, v in parameters.items()}, args
            )

        def top_p(h, *inputs):
            if not detached:
                detached.extend(inputs)
            return call(original[1], h, *detached)

        heads.temperature = lambda *args: call(original[0], *args)
        heads.top_p = top_p
        try:
            return objective(heads, hidden, weight, labels, draws, soft_nucleus=soft_nucleus).loss
        finally:
            del heads.temperature, heads.top_p

    assert torch.autograd.gradcheck(loss, [p.detach().requires_grad_() for p in heads.parameters()])


class _Method(torch.nn.Module):
    def __init__(self, heads, method):
        super().__init__()
        self.heads = heads
        self.method = method

    def forward(self, *args):
        return self.method(*args)


@pytest.mark.parametrize("soft_nucleus", ["inclusive", "exclusive"])
@pytest.mark.parametrize("temperature_features", [False, True])
def test_end_to_end_is_the_papers_equations_written_out(soft_nucleus, temperature_features):
    heads, hidden, weight, labels = make_case(temperature_features=temperature_features)
    draws = torch.rand(2, 8)
    losses, kept = [], 0
    for b in range(2):
        for t in range(8):
            y = labels[b, t + 1]
            if y == -100:
                continue
            logits = weight @ hidden[b, t]
            base = logits.softmax(-1)
            if logits.argmax() == y and draws[b, t] < 0.6:
                continue
            temperature = heads.temperature(hidden[b, t], probability_statistics(base))
            p = (logits / temperature).softmax(-1)
            top_p = heads.top_p(hidden[b, t], temperature, probability_statistics(p))
            order = p.argsort(descending=True)
            mask = torch.empty_like(p)
            cumulative = p[order].cumsum(0)
            if soft_nucleus == "exclusive":
                cumulative = torch.cat([torch.zeros(1), cumulative[:-1]])
            mask[order] = torch.exp(-30 * (cumulative - top_p).clamp(min=0))
            soft = p * mask / ((p * mask).sum() + 1e-9)
            losses.append(-base[y] * soft[y].log())
            kept += 1
    output = eager.end_to_end(heads, hidden, weight, labels, draws, soft_nucleus=soft_nucleus)
    torch.testing.assert_close(output.loss, sum(losses) / kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_options_change_the_loss_the_way_they_say(objective):
    heads, hidden, weight, labels = make_case()
    plain = objective(heads, hidden, weight, labels, dynamic_fine_tuning=False)
    weighted = objective(heads, hidden, weight, labels)
    assert weighted.loss < plain.loss  # every weight is a probability below one
    draws = torch.zeros(2, 8)
    labels[:, 1:] = (hidden[:, :-1] @ weight.T).argmax(-1)  # every token easy
    masked = objective(heads, hidden, weight, labels, draws)
    assert masked.easy.all()
    unmasked = objective(heads, hidden, weight, labels, draws, easy_token_masking=0.0)
    if objective is eager.released:
        assert masked.temperature_loss == 0
        assert masked.top_p_loss == unmasked.top_p_loss > 0
    else:
        assert masked.loss == 0 < unmasked.loss


def test_the_quadratic_rule_is_briers_score_of_all_tokens():
    heads, hidden, weight, labels = make_case(torch.float64)
    valid = labels[:, 1:] != -100
    found = eager.released(heads, hidden, weight, labels, scoring_rule="quadratic")
    q = ((hidden[:, :-1] @ weight.T)[valid] / found.temperature.unsqueeze(-1)).softmax(-1)
    missed = (q - torch.nn.functional.one_hot(labels[:, 1:][valid], 40)).square().sum(-1)
    torch.testing.assert_close(found.temperature_loss, ((missed - 1) / 2).mean())
    logarithmic = eager.released(heads, hidden, weight, labels)
    assert found.top_p_loss == logarithmic.top_p_loss  # DFT-weighted as before
    by_top_p_loss = torch.autograd.grad(found.top_p_loss, list(heads.temp_head.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in by_top_p_loss)


@pytest.mark.parametrize(
    ("options", "best"),
    [
        ({"scoring_rule": "quadratic"}, 1.0),
        ({"dynamic_fine_tuning": False}, 1.0),
        ({"dynamic_fine_tuning": True}, 0.5),
    ],
)
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_on_the_bases_own_text_proper_rules_ask_for_its_temperature_and_dft_for_a_half(options, best, spread):
    vocab_size = 7
    heads = DecodingHeads(AutoDecoConfig(hidden_size=12, mlp_hidden_size=16)).double()
    with torch.no_grad():
        heads.temp_head.mlp[2].weight.zero_()
        heads.temp_head.mlp[2].bias.fill_(math.log(best / (2 - best)))  # T = 2 sigmoid(.)
    state, weight = torch.randn(12, dtype=torch.float64), spread * torch.randn(vocab_size, 12, dtype=torch.float64)
    output = eager.released(
        heads,
        state.expand(vocab_size, 2, 12),
        weight,
        torch.stack([torch.full((vocab_size,), -100), torch.arange(vocab_size)], dim=1),
        row_weights=vocab_size * (weight @ state).softmax(-1),  # every outcome once, by its probability
        **options,
    )
    (slope,) = torch.autograd.grad(output.temperature_loss, heads.temp_head.mlp[2].bias)
    assert slope.abs() < 1e-12


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("temperature_bias", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("top_p_bias", [-1e4, 1e4])
@pytest.mark.parametrize("row_weights", [(1.0, 1.0), (-1.0, -1.0)])
@pytest.mark.parametrize("importance_ratio_cap", [None, 10.0])
def test_finite_at_both_ends_of_the_ranges(objective, temperature_bias, top_p_bias, row_weights, importance_ratio_cap):
    heads, hidden, weight, labels = make_case(spread=30.0)
    with torch.no_grad():
        heads.temp_head.mlp[2].bias.fill_(temperature_bias)
        heads.top_p_head.mlp[2].bias.fill_(top_p_bias)
    options = {"row_weights": torch.tensor(row_weights), "importance_ratio_cap": importance_ratio_cap}
    output = objective(heads, hidden, weight, labels, torch.rand(2, 8), **options)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in heads.parameters())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_row_weights_multiply_their_rows_and_the_mean_stays_one_over_tokens(objective):
    heads, hidden, weight, labels = make_case(torch.float64)
    draws = torch.rand(2, 8)
    alone = [objective(heads, hidden[b : b + 1], weight, labels[b : b + 1], draws[b : b + 1]) for b in range(2)]
    both = objective(heads, hidden, weight, labels, draws, row_weights=torch.tensor([2.0, -0.5]))
    torch.testing.assert_close(both.token_losses, torch.cat([2 * alone[0].token_losses, -0.5 * alone[1].token_losses]))
    unweighted = objective(heads, hidden, weight, labels, draws)
    alike = objective(heads, hidden, weight, labels, draws, row_weights=torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(alike.loss, 3 * unweighted.loss)
    ones = objective(heads, hidden, weight, labels, draws, row_weights=torch.ones(2))
    assert ones.loss == unweighted.loss


@pytest.mark.parametrize(("temperature", "importance_ratio_cap"), [(1.0, None), (1.0, 1e6), (0.6, 1e6), (1.7, 1e6)])
def test_rewards_less_their_mean_give_the_policy_gradient(temperature, importance_ratio_cap):
    """One token, every outcome once, weighted by its probability: the expectation over samples, without chance.

    Without the importance ratio only where the heads sample like the base.
    """
    vocab_size = 7
    heads = DecodingHeads(AutoDecoConfig(hidden_size=12, mlp_hidden_size=16, top_p_head=False)).double()
    with torch.no_grad():
        heads.temp_head.mlp[2].weight.zero_()
        heads.temp_head.mlp[2].bias.fill_(math.log(temperature / (2 - temperature)))  # T = 2 sigmoid(.)
    state, weight = torch.randn(12, dtype=torch.float64), torch.randn(vocab_size, 12, dtype=torch.float64)
    reward, p = torch.randint(0, 2, (vocab_size,)).double(), (weight @ state).softmax(-1)
    advantage = reward - (p * reward).sum()
    output = eager.end_to_end(
        heads,
        state.expand(vocab_size, 2, 12),
        weight,
        torch.stack([torch.full((vocab_size,), -100), torch.arange(vocab_size)], dim=1),
        dynamic_fine_tuning=False,
        importance_ratio_cap=importance_ratio_cap,
        row_weights=vocab_size * p * advantage,  # the objective's mean divides by their number
    )
    expected_reward = ((weight @ state / heads.temperature(state)).softmax(-1) * reward).sum()
    found = torch.autograd.grad(output.loss, list(heads.parameters()))
    expected = torch.autograd.grad(-expected_reward, list(heads.parameters()))
    assert expected[-1].abs() > 1e-3
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_importance_ratios_are_of_each_parts_own_distribution_and_truncated(objective):
    heads, hidden, weight, labels = make_case(torch.float64)
    case = heads, hidden, weight, labels
    options = {"dynamic_fine_tuning": False}
    valid = labels[:, 1:] != -100
    base = eager.at_targets((hidden[:, :-1] @ weight.T)[valid].log_softmax(-1), labels[:, 1:][valid])
    plain = objective(*case, **options)
    if objective is eager.released:
        divided = (hidden[:, :-1] @ weight.T)[valid] / plain.temperature.unsqueeze(-1)
        first = -eager.at_targets(divided.log_softmax(-1), labels[:, 1:][valid])
        second = plain.token_losses - first  # -log(p̃ + 1e-9)
        parts = [(first, (-first).exp()), (second, (-second).exp() - 1e-9)]
    else:
        parts = [(plain.token_losses, (-plain.token_losses).exp())]
    for cap in (0.5, 1e6):
        expected = sum(loss * (probability / base.exp()).clamp(max=cap) for loss, probability in parts)
        found = objective(*case, **options, importance_ratio_cap=cap)
        torch.testing.assert_close(found.token_losses, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature_bias", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("top_p_bias", [-1e4, 0.0, 1e4])
def test_a_negative_weight_can_gain_no_more_than_the_ranges_of_t_and_p_allow(temperature_bias, top_p_bias):
    heads, hidden, weight, labels = make_case(torch.float64, spread=30.0)
    with torch.no_grad():
        heads.temp_head.mlp[2].bias.fill_(temperature_bias)
        heads.top_p_head.mlp[2].bias.fill_(top_p_bias)
    case = heads, hidden, weight, labels
    negative = {"dynamic_fine_tuning": False, "row_weights": torch.tensor([-1.0, -1.0])}
    valid = labels[:, 1:] != -100
    logits = (hidden[:, :-1] @ weight.T)[valid]
    gap = logits.amax(-1) - eager.at_targets(logits, labels[:, 1:][valid])
    log_probability = eager.end_to_end(*case, **negative).token_losses  # less the loss of a weight of 1
    assert (log_probability >= -(gap / heads.config.min_temperature + math.log(40) + 30 + 1e-6)).all()
    # -log(p̃ + 1e-9) stops at 20.7 by itself, and the temperature's part has no nucleus.
    released = eager.released(*case, **negative).token_losses
    assert (released >= -(gap / heads.config.min_temperature + math.log(40) + 20.73)).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nothing_to_learn_from_gives_zero_and_a_zero_gradient(objective):
    heads, hidden, weight, labels = make_case()
    output = objective(heads, hidden, weight, torch.full_like(labels, -100))
    output.loss.backward()
    assert output.loss == 0
    one = objective(heads, hidden[:, :1], weight, labels[:, :1])  # one token has no next token
    assert one.loss == 0


def test_one_labelled_token_counts():
    heads, hidden, weight, _ = make_case()
    labels = torch.full((2, 9), -100)
    labels[1, 4] = 7
    output = eager.released(heads, hidden, weight, labels)
    assert output.rows.tolist() == [1]
    assert output.loss > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("absent", ["temperature_head", "top_p_head"])
def test_one_head_alone(objective, absent):
    _, hidden, weight, labels = make_case()
    heads = DecodingHeads(AutoDecoConfig(hidden_size=12, **{absent: False}))
    objective(heads, hidden, weight, labels).loss.backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in heads.parameters())


def test_lm_head_may_be_a_function():
    heads, hidden, weight, labels = make_case()
    capped = eager.released(heads, hidden, lambda h: torch.tanh(h @ weight.T), labels)
    plain = eager.released(heads, hidden, weight, labels)
    assert capped.loss != plain.loss
