"""Heads that see a summary of the prompt under every objective: fused and control follow eager, and eager autograd."""

import copy
import dataclasses
import functools

import pytest
import torch

from autodeco.config import AutoDecoConfig
from autodeco.errors import ConfigError
from autodeco.heads import DecodingHeads
from autodeco.objectives import chunks, eager, fused, head_gradients
from autodeco.objectives.control import ControlWeights, control
from autodeco.objectives.prompt import Prompts, prompt_of
from tests.objectives.test_control import rows
from tests.objectives.test_fused import assert_same, both, hidden_state_gradients


def make_case(prompt_summary=True, **settings):
    torch.manual_seed(0)
    config = {"hidden_size": 8, "vocab_size": 60, "mlp_hidden_size": 16, "prompt_summary": prompt_summary, **settings}
    heads = DecodingHeads(AutoDecoConfig(**config))
    with torch.no_grad():
        for name, parameter in heads.named_parameters():
            if ".prompt." in name:
                parameter.normal_(std=0.1)  # more, and T and P are at the ends of their ranges, without gradient
    labels = torch.randint(0, 60, (2, 9))
    labels[0, :3], labels[1, :5], labels[1, 8:] = -100, -100, -100
    return heads, torch.randn(2, 9, 8), torch.randn(60, 8), labels


def gradients_of(heads):
    return {name: parameter.grad for name, parameter in heads.named_parameters()}


def test_the_prompt_is_what_comes_before_the_first_label():
    labels = torch.tensor([[-100, -100, 5, -100, 7], [4, -100, 5, 6, -100]])
    assert prompt_of(labels).tolist() == [[True, True, False, False, False], [False] * 5]
    padded_left = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    assert prompt_of(labels, padded_left).tolist() == [[False, True, False, False, False], [False] * 5]


@pytest.mark.parametrize("objective", ["released", "end_to_end"])
@pytest.mark.parametrize(
    "settings", [{}, {"temperature_features": True}, {"temperature_head": False}, {"top_p_head": False}]
)
def test_fused_gradients_are_those_of_eager(backend, objective, settings, monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK_ELEMENTS", 180)  # three positions a chunk: each row's are in several
    monkeypatch.setattr(head_gradients, "_HEADS_CHUNK", 4)
    heads, hidden, weight, labels = make_case(**settings)
    expected, found = both(objective, heads, hidden, weight, labels, torch.rand(2, 8))
    assert_same(expected, found, tolerance=1e-5)
    gradients = dict(zip((name for name, _ in heads.named_parameters()), found[1], strict=True))
    assert all(gradients[name].abs().sum() > 0 for name in gradients if ".prompt." in name)


@pytest.mark.parametrize("objective", ["released", "end_to_end"])
def test_gradients_that_reach_the_hidden_states_of_prompt_and_completion(backend, objective, monkeypatch):
    monkeypatch.setattr(head_gradients, "_HEADS_CHUNK", 4)
    heads, hidden, weight, labels = make_case()
    found = hidden_state_gradients(objective, heads, hidden, weight, labels)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5 * float(found[0].abs().max()))
    assert found[1][1, :4].abs().sum(-1).min() > 0  # read by nothing but the summary


@pytest.mark.parametrize("module", [eager, fused])
def test_each_row_is_what_its_own_prompt_makes_of_it(module):
    heads, hidden, weight, labels = make_case()
    output = module.end_to_end(heads, hidden, weight, labels)
    for row, start in ((0, 3), (1, 5)):
        summary = heads.summarise_prompt(hidden[row : row + 1, :start], torch.ones(1, start))
        seen = heads.input_of(hidden[row, start - 1 : 7 if row else 8], summary)
        torch.testing.assert_close(output.temperature[output.rows == row], heads.temperature(seen).detach())


@pytest.mark.parametrize("module", [eager, fused])
def test_padding_on_the_left_is_left_out_where_the_mask_says_so(module):
    heads, hidden, weight, labels = make_case()
    alone = module.end_to_end(heads, hidden[1:], weight, labels[1:])
    padded_hidden = torch.cat([torch.full((1, 2, 8), 50.0), hidden[1:]], 1)
    padded_labels = torch.cat([torch.full((1, 2), -100), labels[1:]], 1)
    mask = prompt_of(padded_labels)
    assert not torch.allclose(
        module.end_to_end(heads, padded_hidden, weight, padded_labels, prompts=Prompts(mask)).loss, alone.loss
    )
    mask[:, :2] = False
    found = module.end_to_end(heads, padded_hidden, weight, padded_labels, prompts=Prompts(mask))
    torch.testing.assert_close(found.loss, alone.loss)


@pytest.mark.parametrize("module", [eager, fused])
def test_new_parameters_start_as_nothing_and_the_map_has_a_gradient_at_once(module):
    heads, hidden, weight, labels = make_case(prompt_summary=False)
    extended = heads.with_prompt_summary()
    outputs = [module.released(own, hidden, weight, labels) for own in (heads, extended)]
    for name in ("loss", "temperature", "top_p", "token_losses"):
        assert getattr(outputs[0], name).equal(getattr(outputs[1], name))
    for output in outputs:
        output.loss.backward()
    before, after = gradients_of(heads), gradients_of(extended)
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient)
    for head in ("temp_head", "top_p_head"):
        assert after[f"{head}.prompt.up"].abs().sum() > 0
        assert after[f"{head}.prompt.down"].abs().sum() == after[f"{head}.prompt.query"].abs().sum() == 0


def test_frozen_summaries_train_the_rest_alone():
    heads, hidden, weight, labels = make_case()
    for name, parameter in heads.named_parameters():
        parameter.requires_grad_(".prompt." not in name)
    found = []
    for module in (eager, fused):
        own = copy.deepcopy(heads)
        module.end_to_end(own, hidden, weight, labels).loss.backward()
        found.append(gradients_of(own))
    assert all(found[0][name] is None and found[1][name] is None for name in found[0] if ".prompt." in name)
    for name in ("temp_head.mlp.0.weight", "top_p_head.mlp.2.bias"):
        torch.testing.assert_close(found[1][name], found[0][name], rtol=1e-4, atol=1e-6)


def test_control_sees_each_version_by_its_own_prompt():
    """The same completion states under two prompts: only the summary can tell the versions apart, and learns to."""
    heads, _, weight, _ = make_case(prompt_summary=False)
    heads = heads.with_prompt_summary()
    starting = copy.deepcopy(heads).requires_grad_(False)
    hidden = torch.randn(1, 9, 8).repeat(2, 1, 1)
    hidden[1, 1] = torch.randn(8)  # the command, in the prompt
    labels = torch.full((2, 9), -100)
    labels[:, 4:] = torch.randint(0, 60, (1, 5))
    asked, optimiser = rows([0, -1]), torch.optim.AdamW(heads.parameters(), lr=1e-2)
    found = []
    for _ in range(40):
        run = functools.partial(control, heads, hidden, weight, labels, asked=asked, starting_heads=starting)
        output = run(weights=ControlWeights(decoding=0, keep=3), decoding=fused.end_to_end)
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        found.append(float(output.metrics["temperature_ranking_loss"]))
    assert found[0] == pytest.approx(0.2)  # no difference yet: the whole margin is missing
    assert found[-1] == 0


def test_control_with_eager_and_fused_and_with_masks():
    heads, hidden, weight, labels = make_case()
    starting = copy.deepcopy(heads).requires_grad_(False)
    asked, weights = rows([0, 1]), ControlWeights(keep=1)
    found = []
    for module, prompts in ((eager, None), (fused, None), (fused, Prompts(prompt_of(labels)))):
        heads.zero_grad()
        output = control(
            heads, hidden, weight, labels, asked=asked, weights=weights, decoding=module.end_to_end,
            starting_heads=starting, prompts=prompts,
        )  # fmt: skip
        assert output.metrics["temperature_keep_loss"] == pytest.approx(0, abs=1e-12)
        output.loss.backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in heads.parameters()]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-6)
    assert found[2].equal(found[1])


def test_states_after_a_layer_have_to_be_given():
    heads, hidden, weight, labels = make_case()
    after_layer = DecodingHeads(dataclasses.replace(heads.config, prompt_layer=2))
    after_layer.load_state_dict(heads.state_dict())
    with pytest.raises(ConfigError, match=r"after layer 2 \(prompt_layer\), and were given its last hidden states"):
        eager.end_to_end(after_layer, hidden, weight, labels)
    prompts = Prompts(prompt_of(labels), torch.randn_like(hidden))
    found = [module.end_to_end(after_layer, hidden, weight, labels, prompts=prompts).loss for module in (eager, fused)]
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[0], eager.end_to_end(heads, hidden, weight, labels).loss)
