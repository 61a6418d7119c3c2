import functools

import pytest
import torch

from autodeco.config import AutoDecoConfig
from autodeco.heads import DecodingHeads
from autodeco.objectives import eager, fused
from autodeco.objectives.control import (
    CommandedRows,
    ControlWeights,
    _command_losses,
    absolute_losses,
    control,
    hold_losses,
    ranked_pairs,
    ranking_losses,
    row_means,
)

NAN = float("nan")


def rows(levels, *, commanded=None, group=None, temperature=None, top_p=None):
    count = len(levels)
    return CommandedRows(
        group=torch.tensor(group or [0] * count),
        commanded=torch.tensor(commanded or [False] + [True] * (count - 1)),
        level=torch.tensor(levels, dtype=torch.float64),
        temperature=torch.tensor(temperature or [NAN] * count, dtype=torch.float64),
        top_p=torch.tensor(top_p or [NAN] * count, dtype=torch.float64),
    )


def hinge(means, asked, value, margin):
    differences, levels = ranked_pairs(means, asked, value)
    return sorted((margin * levels - differences).clamp(min=0).tolist())


def test_ranking_by_hand():
    asked = rows([0, -1, 1])
    means = torch.tensor([0.7, 0.65, 0.6], dtype=torch.float64)
    # low under none: 0.1 - 0.05; high over none: 0.1 + 0.1; high over low: 0.2 + 0.05
    assert hinge(means, asked, asked.temperature, 0.1) == pytest.approx([0.05, 0.2, 0.25])
    far_apart = torch.tensor([0.7, 0.5, 0.9], dtype=torch.float64)
    assert hinge(far_apart, asked, asked.temperature, 0.1) == [0, 0, 0]


def test_a_ceiling_bounds_what_is_asked_for():
    differences = torch.tensor([-0.1, 0.05, 0.1, 0.25, 0.5], dtype=torch.float64)
    asked = torch.full((5,), 0.1, dtype=torch.float64)
    assert ranking_losses(differences, asked, 2.0).tolist() == pytest.approx([0.2, 0.05, 0, 0.05, 0.3])
    assert ranking_losses(differences, asked, float("inf")).tolist() == pytest.approx([0.2, 0.05, 0, 0, 0])


def test_the_ceiling_is_part_of_the_loss():
    asked = rows([0, -1, 1])
    far_apart = torch.tensor([0.7, 0.2, 1.2], dtype=torch.float64)  # by 0.5 and 1.0, where 0.2 and 0.4 are asked for
    values, of_rows = far_apart[1:], torch.tensor([1, 2])
    losses = {
        ceiling: _command_losses(
            "temperature", far_apart, values, of_rows, asked, ControlWeights(margin_ceiling=ceiling)
        )[0].item()
        for ceiling in (2.0, float("inf"))
    }
    assert losses == {2.0: pytest.approx((0.1 + 0.1 + 0.2) / 3), float("inf"): 0}


def test_graded_commands_are_ranked_among_each_other_and_need_larger_margins():
    asked = rows([0, 0.5, 2])
    means = torch.tensor([0.7, 0.75, 0.75], dtype=torch.float64)
    # 0.05 is what half a level asks for; 0.2 - 0.05 and 0.15 - 0 are missing.
    assert hinge(means, asked, asked.temperature, 0.1) == pytest.approx([0, 0.15, 0.15])


def test_groups_look_alikes_and_rows_with_a_value_are_left_out_of_the_ranking():
    asked = rows(
        [0, 1, 0, 0, -1, -1],
        group=[0, 0, 0, 1, 1, 1],
        commanded=[False, True, True, False, True, True],
        temperature=[NAN, NAN, NAN, NAN, NAN, 0.0],
    )
    differences, levels = ranked_pairs(torch.arange(6.0), asked, asked.temperature)
    assert differences.tolist() == [1, -1]  # row 1 over row 0, row 3 over row 4
    assert levels.tolist() == [1, 1]


def test_no_gradient_reaches_the_uncommanded_mean():
    asked = rows([0, -1, 1, 0])
    means = torch.tensor([0.7, 0.7, 0.7, 0.9], dtype=torch.float64, requires_grad=True)
    differences, levels = ranked_pairs(means, asked, asked.temperature)
    loss = (0.1 * levels - differences).clamp(min=0).sum() + hold_losses(means, asked, asked.temperature).sum()
    loss.backward()
    # Low is pulled down and high up by two pairs each; the look-alike back by 2 · 0.2.
    torch.testing.assert_close(means.grad, torch.tensor([0, 2, -2, 0.4], dtype=torch.float64))


def test_hold_is_for_look_alikes_and_for_the_head_that_a_value_leaves_alone():
    asked = rows([0, 0, 0, 1], temperature=[NAN, NAN, 0.3, NAN])
    means = torch.tensor([0.7, 0.6, 0.9, 0.1], dtype=torch.float64)
    assert hold_losses(means, asked, asked.temperature).tolist() == pytest.approx([0.01])
    assert hold_losses(means, asked, asked.top_p).tolist() == pytest.approx([0.01, 0.04])


def test_absolute_is_a_distance_of_tokens_not_of_means():
    values = torch.tensor([0.2, 0.4, 1.0], dtype=torch.float64)
    losses = absolute_losses(values, torch.tensor([1, 1, 2]), torch.tensor([NAN, 0.3, NAN], dtype=torch.float64))
    assert losses.tolist() == pytest.approx([0.01])


def test_row_means():
    assert row_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), 3).tolist() == [2, 0, 5]


def make_case(dtype=torch.float64, vocab_size=40, hidden_size=12, **heads_config):
    """Two groups of four rows; completions of 5 and of 3 tokens, at other places of their rows."""
    heads = DecodingHeads(AutoDecoConfig(hidden_size=hidden_size, mlp_hidden_size=16, **heads_config)).to(dtype)
    hidden = torch.randn(8, 9, hidden_size, dtype=dtype)
    weight = torch.randn(vocab_size, hidden_size, dtype=dtype)
    labels = torch.full((8, 9), -100)
    for row in range(8):
        length = 5 if row < 4 else 3
        labels[row, 9 - length - row % 2 : 9 - row % 2] = torch.randint(0, vocab_size, (length,))
    asked = rows(
        [0, -1, 1, 0] * 2,
        group=[0] * 4 + [1] * 4,
        commanded=[False, True, True, True] * 2,
        temperature=[NAN] * 7 + [0.3],
        top_p=[NAN] * 7 + [0.9],
    )
    return heads, hidden, weight, labels, asked


@pytest.mark.parametrize("name", ["end_to_end", "released"])
def test_eager_and_fused_decoding_give_the_same_loss_and_gradients(name, backend):
    heads, hidden, weight, labels, asked = make_case(torch.float32)
    found = []
    for module in (eager, fused):
        heads.zero_grad()
        output = control(
            heads, hidden, weight, labels, asked=asked, weights=ControlWeights(), decoding=getattr(module, name)
        )
        output.loss.backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in heads.parameters()])
        found.append((output.loss.detach(), gradients, dict(output.metrics)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-6)
    assert found[0][2].keys() == found[1][2].keys()


@pytest.mark.parametrize("temperature_features", [False, True])
def test_the_loss_is_the_sum_of_its_parts_computed_from_the_heads(temperature_features):
    """All parts again from T and P of every token, row by row."""
    heads, hidden, weight, labels, asked = make_case(temperature_features=temperature_features)
    weights = ControlWeights(temperature_margin=0.3, top_p_margin=0.2, decoding=0.5, ranking=2, hold=3, absolute=5)
    decoding = functools.partial(eager.end_to_end, easy_token_masking=0.0)
    row_weights = torch.arange(8.0)
    output = control(heads, hidden, weight, labels, None, row_weights, asked=asked, weights=weights, decoding=decoding)

    plain = [0, 4]
    expected = 0.5 * decoding(heads, hidden[plain], weight, labels[plain], row_weights=row_weights[plain]).loss
    for head, margin, value in (("temperature", 0.3, 0.3), ("top_p", 0.2, 0.9)):
        # What decoding objectives say of a row is what the heads give there.
        tokens = [getattr(decoding(heads, hidden[r : r + 1], weight, labels[r : r + 1]), head) for r in range(8)]
        m = [own.mean() for own in tokens]
        pairs = [(0, 1, 1), (2, 0, 1), (2, 1, 2), (4, 5, 1), (6, 4, 1), (6, 5, 2)]  # higher, lower, levels between
        expected += 2 * sum((margin * levels - (m[a] - m[b])).clamp(min=0) for a, b, levels in pairs) / 6
        expected += 3 * (m[3] - m[0]) ** 2 + 5 * (tokens[7] - value).square().mean()
        assert output.metrics[f"{head}_error"] == pytest.approx(abs(float(m[7]) - value))
    torch.testing.assert_close(output.loss.detach(), expected.detach())
    assert set(output.rows.tolist()) == {0, 4}
    assert len(output.temperature) == 8  # of uncommanded rows alone


@pytest.mark.parametrize("head", ["temperature", "top_p"])
def test_a_head_that_is_not_steered_gets_the_decoding_objective_alone(head):
    heads, hidden, weight, labels, asked = make_case()
    other = "top_p" if head == "temperature" else "temperature"
    weights = ControlWeights(**{other: False}, decoding=0.0)
    output = control(heads, hidden, weight, labels, asked=asked, weights=weights, decoding=fused.end_to_end)
    output.loss.backward()
    moved = {name.split(".")[0] for name, p in heads.named_parameters() if p.grad is not None and p.grad.abs().sum()}
    assert moved == {"temp_head" if head == "temperature" else "top_p_head"}
    assert not [name for name in output.metrics if name.startswith(other)]


def test_minimising_it_separates_commands_that_the_hidden_states_tell_apart():
    heads, _, weight, labels, asked = make_case(torch.float32)
    kinds = torch.randn(4, 12) * 2
    hidden = torch.randn(8, 9, 12) * 0.2 + kinds.repeat(2, 1).unsqueeze(1)
    optimiser = torch.optim.AdamW(heads.parameters(), lr=1e-2)
    weights = ControlWeights(decoding=0.0)
    for _ in range(150):
        output = control(heads, hidden, weight, labels, asked=asked, weights=weights, decoding=fused.end_to_end)
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    assert output.metrics["temperature_in_order"] == output.metrics["top_p_in_order"] == 1
    assert output.metrics["temperature_ranking_loss"] < 0.01


def test_a_batch_without_commands_is_the_decoding_objective():
    heads, hidden, weight, labels, _ = make_case()
    asked = rows([0, 0], commanded=[False, False], group=[0, 1])
    plain = fused.released(heads, hidden[[0, 4]], weight, labels[[0, 4]])
    output = control(
        heads, hidden[[0, 4]], weight, labels[[0, 4]], asked=asked, weights=ControlWeights(), decoding=fused.released
    )
    assert output.loss == plain.loss
    assert set(output.metrics) == {"decoding_loss"}


@pytest.mark.parametrize("temperature_features", [False, True])
def test_keep_is_the_mean_squared_distance_from_the_starting_heads_on_uncommanded_rows(temperature_features):
    heads, hidden, weight, labels, asked = make_case(temperature_features=temperature_features)
    starting = make_case(temperature_features=temperature_features)[0].requires_grad_(False)  # other random heads
    weights = ControlWeights(decoding=0, ranking=0, hold=0, absolute=0, keep=4)
    settings = {"asked": asked, "weights": weights, "decoding": fused.end_to_end}
    output = control(heads, hidden, weight, labels, starting_heads=starting, **settings)
    expected = 0.0
    for row in (0, 4):
        rows_own = hidden[row : row + 1], weight, labels[row : row + 1]
        own, start = eager.end_to_end(heads, *rows_own), eager.end_to_end(starting, *rows_own)
        for head in ("temperature", "top_p"):
            expected += 4 * (getattr(own, head) - getattr(start, head)).square().mean() / 2
    assert expected > 0.01
    torch.testing.assert_close(output.loss.detach(), expected)
    output.loss.backward()
    assert all(parameter.grad is None for parameter in starting.parameters())
    same = control(heads, hidden, weight, labels, starting_heads=heads, **settings)
    assert same.loss == same.metrics["temperature_keep_loss"] == same.metrics["top_p_keep_loss"] == 0
    assert control(heads, hidden, weight, labels, **settings).loss == 0


def test_keep_lets_commands_move_and_holds_what_is_not_commanded():
    """Hidden states share a direction, so that what commands learn leaks to uncommanded rows."""
    heads, _, weight, labels, asked = make_case(torch.float32)
    kinds = torch.randn(4, 12) * 0.5 + torch.randn(12)
    hidden = torch.randn(8, 9, 12) * 0.2 + kinds.repeat(2, 1).unsqueeze(1)
    starting = make_case(torch.float32)[0]
    starting.load_state_dict(heads.state_dict())
    moved = {}
    for keep in (0.0, 10.0):
        heads.load_state_dict(starting.state_dict())
        optimiser = torch.optim.AdamW(heads.parameters(), lr=1e-2)
        weights = ControlWeights(decoding=0.0, keep=keep)
        for _ in range(100):
            output = control(
                *(heads, hidden, weight, labels),
                **{"asked": asked, "weights": weights, "decoding": fused.end_to_end, "starting_heads": starting},
            )
            optimiser.zero_grad()
            output.loss.backward()
            optimiser.step()
        assert output.metrics["temperature_in_order"] == output.metrics["top_p_in_order"] == 1
        plain = hidden[[0, 4]], weight, labels[[0, 4]]
        own, start = fused.end_to_end(heads, *plain), fused.end_to_end(starting, *plain)
        moved[keep] = float((own.temperature - start.temperature).abs().mean())
    assert moved[10.0] < moved[0.0] / 3, moved


def test_with_an_adapter_all_rows_are_kept_at_the_bases_own_distribution_and_starting_heads_read_the_base():
    heads, hidden, weight, labels, asked = make_case()
    starting = make_case()[0].requires_grad_(False)
    before = hidden + 0.1 * torch.randn_like(hidden)
    settings = {"asked": asked, "decoding": fused.end_to_end, "starting_heads": starting}
    settings["weights"] = ControlWeights(decoding=0, ranking=0, hold=0, absolute=0, keep=4, base=3)
    adapted = hidden.clone().requires_grad_()
    output = control(heads, adapted, weight, labels, base_hidden_states=before, **settings)

    own, base = ((states @ weight.T).log_softmax(-1) for states in (hidden, before))
    divergences = (base.exp() * (base - own)).sum(-1)[:, :-1]
    counted = labels[:, 1:] != -100
    expected = 3 * torch.stack([divergences[row][counted[row]].mean() for row in range(8)]).mean()
    for row in (0, 4):
        given = weight, labels[row : row + 1]
        new = fused.end_to_end(heads, hidden[row : row + 1], *given)
        old = fused.end_to_end(starting, before[row : row + 1], *given)
        for head in ("temperature", "top_p"):
            expected = expected + 4 * (getattr(new, head) - getattr(old, head)).square().mean() / 2
    torch.testing.assert_close(output.loss.detach(), expected)
    output.loss.backward()
    assert adapted.grad[:, :-1][counted].abs().sum(-1).min() > 0


def test_command_losses_reach_the_hidden_states_through_the_heads():
    heads, hidden, weight, labels, asked = make_case()
    weights = ControlWeights(decoding=0)
    own = hidden.clone().requires_grad_()
    control(heads, own, weight, labels, asked=asked, weights=weights, decoding=fused.end_to_end).loss.backward()
    commanded = asked.commanded.unsqueeze(1) & (labels[:, 1:] != -100)
    assert own.grad[:, :-1][commanded].abs().sum() > 0
    # Without a command nothing moves: means are compared with sg(m_0).
    assert not own.grad[~asked.commanded].any()
