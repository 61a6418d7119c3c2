"""generate(..., decoding=...): what it makes of T and P, in each of generate's modes, and that nothing stays."""

import threading

import pytest
import torch

from autodeco import AutoDecoForCausalLM
from autodeco.errors import ConfigError
from autodeco.steering import active_steering, get_steering, steering
from autodeco.strategies import get_strategy
from tests.conftest import tiny_autodeco, tiny_llama
from tests.test_generation import PROMPT, _Collector, generate


def heads_own(model, sequences):
    """T and P that the heads choose for each token after the prompt."""
    with torch.no_grad():
        output = model(sequences)
    return output.temperature[:, 4:-1], output.top_p[:, 4:-1]


@pytest.mark.parametrize(
    ("decoding", "temperature", "top_p"),
    [
        ("certain", lambda t: t * 0.5, lambda p: p * 0.9),
        ("diverse", lambda t: (t * 1.5).clamp(max=2), lambda p: (p / 0.9).clamp(max=1)),
        ({"temperature": 0.3}, lambda t: torch.full_like(t, 0.3), lambda p: p),
        ({"top_p": 0.7}, lambda t: t, lambda p: torch.full_like(p, 0.7)),
        ({"temperature": 1.2, "top_p": 1}, lambda t: torch.full_like(t, 1.2), torch.ones_like),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", [{}, {"do_sample": False}, {"num_beams": 3, "do_sample": False}], ids=str)
def test_t_and_p_of_each_token_are_the_heads_own_changed_as_documented(model, decoding, temperature, top_p, mode):
    output = generate(model, max_new_tokens=8, min_new_tokens=8, decoding=decoding, trace=True, **mode)
    own_temperature, own_top_p = heads_own(model, output.sequences)
    torch.testing.assert_close(output.temperature, temperature(own_temperature), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.top_p, top_p(own_top_p), rtol=1e-4, atol=1e-5)


def test_both_bounds_are_reached_and_hold():
    model = tiny_autodeco()
    with torch.no_grad():
        model.decoding_heads.temp_head.mlp[2].bias.add_(10)
        model.decoding_heads.top_p_head.mlp[2].bias.add_(10)
    output = generate(model, max_new_tokens=4, min_new_tokens=4, decoding="diverse", trace=True)
    assert output.temperature.tolist() == [[2.0] * 4]
    assert output.top_p.tolist() == [[1.0] * 4]


def test_values_for_both_are_the_static_setting(model):
    settings = {"max_new_tokens": 12, "min_new_tokens": 12, "return_dict_in_generate": True, "output_logits": True}
    found = generate(model, decoding={"temperature": 0.6, "top_p": 0.9}, **settings)
    with model.decode_with("static:temperature=0.6,top_p=0.9"):
        expected = generate(model, **settings)
    assert found.sequences.equal(expected.sequences)
    assert all(torch.equal(a, b) for a, b in zip(found.logits, expected.logits, strict=True))


def test_greedy_gives_the_same_text_whatever_is_asked(model):
    plain = generate(model, do_sample=False, max_new_tokens=12)
    for decoding in ("certain", "diverse", {"temperature": 1.9, "top_p": 0.1}):
        assert generate(model, do_sample=False, max_new_tokens=12, decoding=decoding).equal(plain)


def test_a_batch_with_padding_is_steered_row_by_row(model):
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), PROMPT], dim=1)
    mask = (padded != 0).long()
    other = torch.randint(3, 128, (1, 8))
    batch, masks = torch.cat([padded, other]), torch.cat([mask, torch.ones_like(other)])
    settings = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6, "trace": True}
    plain = generate(model, batch, masks, **settings)
    steered = generate(model, batch, masks, decoding="certain", **settings)
    torch.testing.assert_close(steered.temperature, plain.temperature / 2)


def test_streaming_in_a_thread_of_its_own(model):
    """As with TextIteratorStreamer; the thread that waits is not steered meanwhile."""
    collector, seen = _Collector(), []
    collector.end = lambda: seen.append(active_steering(model).steering)
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "streamer": collector, "decoding": "certain"}
    thread = threading.Thread(target=generate, args=(model,), kwargs=settings)
    with torch.no_grad():
        before = model(PROMPT).temperature
        thread.start()
        beside = model(PROMPT).temperature
        thread.join()
    assert beside.equal(before)
    assert seen == [get_steering("certain", 2)]
    assert collector.tokens == generate(model, max_new_tokens=6, min_new_tokens=6, decoding="certain")[0].tolist()


def test_an_assistant_with_heads_decodes_as_ever(model):
    assistant = AutoDecoForCausalLM.from_base(tiny_llama(num_hidden_layers=1))
    assistant.generation_config.num_assistant_tokens = 3
    seen = []
    original = type(assistant).forward

    def noting(*args, **kwargs):
        seen.append(active_steering(assistant))
        return original(assistant, *args, **kwargs)

    assistant.forward = noting
    output = generate(
        model, max_new_tokens=8, min_new_tokens=8, assistant_model=assistant, decoding="certain", trace=True
    )
    torch.testing.assert_close(output.temperature, heads_own(model, output.sequences)[0] / 2, rtol=1e-4, atol=1e-5)
    assert seen
    assert set(seen) == {None}


def test_one_head_alone():
    model = AutoDecoForCausalLM.from_base(tiny_llama(), top_p_head=False)
    output = generate(model, max_new_tokens=4, min_new_tokens=4, decoding="certain", trace=True)
    assert output.top_p[0].tolist() == pytest.approx([0.9] * 4)  # an absent head's value is 1


class _Stops(_Collector):
    def put(self, value):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("settings", "error"), [({"streamer": _Stops()}, KeyboardInterrupt), ({"no_such_setting": 1}, ValueError)]
)
def test_nothing_stays_set_after_the_call_nor_after_an_exception(model, settings, error):
    with torch.no_grad():
        before = model(PROMPT).temperature
        generate(model, max_new_tokens=2, decoding="certain")
        assert model(PROMPT).temperature.equal(before)
        with pytest.raises(error):
            generate(model, max_new_tokens=2, decoding="certain", **settings)
        assert model(PROMPT).temperature.equal(before)
    assert active_steering(model) is None


@pytest.mark.parametrize(
    ("decoding", "message"),
    [
        ("certan", "unknown decoding 'certan'. Did you mean 'certain'"),
        ("Be as certain as possible.", "belongs into the prompt"),
        ({}, "'certain', 'diverse' or a mapping with 'temperature', 'top_p' or both, found {}"),
        (0.3, "found 0.3"),
        ({"temprature": 0.3}, "no 'temprature'. Did you mean 'temperature'"),
        ({"temperature": 0}, "temperature 0 is greedy decoding; call generate with do_sample=False"),
        ({"temperature": 2.5}, "temperature must be a number at least 0.01 and at most 2, found 2.5"),
        ({"temperature": -1}, "at least 0.01"),
        ({"temperature": float("nan")}, "found nan"),
        ({"temperature": True}, "found True"),
        ({"temperature": "0.3"}, "found '0.3'"),
        ({"top_p": 0}, "top_p must be a number above 0 and at most 1, found 0"),
        ({"top_p": 1.01}, "found 1.01"),
        ({"temperature": 0.3, "top_p": None}, "found None"),
    ],
    ids=str,
)
def test_bad_values(model, decoding, message):
    with pytest.raises(ConfigError) as raised:
        model.generate(PROMPT, decoding=decoding)
    assert message in str(raised.value)


def test_where_not_the_heads_decode_it_is_refused(model):
    with pytest.raises(ConfigError, match="they are disabled"), model.disable_heads():
        model.generate(PROMPT, decoding="certain")
    with (
        pytest.raises(ConfigError, match=f"'{get_strategy('p-less')}' stands in their place"),
        model.decode_with("p-less"),
    ):
        model.generate(PROMPT, decoding="certain")


def test_a_compiled_model_is_steered_and_then_not(model):
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        before = compiled(PROMPT).temperature
        with steering(model, "certain"):
            torch.testing.assert_close(compiled(PROMPT).temperature, before / 2)
        assert compiled(PROMPT).temperature.equal(before)


def test_contexts_of_it_nest(model):
    with steering(model, "certain"):
        with steering(model, {"top_p": 0.5}):
            assert active_steering(model).steering == get_steering({"top_p": 0.5}, 2)
        assert active_steering(model).steering == get_steering("certain", 2)
