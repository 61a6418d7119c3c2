"""Making traces: every number against plain PyTorch in float64, on the base model's own logits."""

import math

import pytest
import torch

from autodeco import AutoDecoConfig, AutoDecoForCausalLM, DecodingHeads
from autodeco.errors import DataError
from autodeco.steering import steering
from autodeco.trace.make import trace_generation, trace_text
from tests.conftest import byte_tokenizer, tiny_autodeco, tiny_llama

TOKENIZER = byte_tokenizer()
PROMPT = [1, 17, 99, 23]
COMPLETION = [42, 7, 250, 3, 2, 190]


@pytest.fixture
def model():
    made = tiny_autodeco(vocab_size=len(TOKENIZER))
    with torch.no_grad():  # nuclei of several tokens, so that there is something to see
        made.decoding_heads.top_p_head.mlp[2].bias.add_(2.0)
    return made


def expected_rows(model, prompt, completion, temperature=1.0):
    """Each completion token's numbers, by definition, a position at a time."""
    for index, chosen in enumerate(completion):
        ids = torch.tensor([[*prompt, *completion[:index]]])
        with torch.no_grad():
            output = model(ids)
        learned, top_p = output.temperature[0, -1].double(), output.top_p[0, -1].double()
        base = output.base_logits[0, -1].double().softmax(-1)
        scaled = (output.base_logits[0, -1].double() / learned).softmax(-1)
        order = scaled.argsort(descending=True)
        mass_before = scaled[order].cumsum(0) - scaled[order]
        kept = torch.zeros_like(scaled, dtype=torch.bool)
        kept[order[mass_before < top_p]] = True
        final = torch.where(kept, output.base_logits[0, -1].double() / learned / temperature, -math.inf).softmax(-1)
        others = [int(one) for one in base.argsort(descending=True) if one != chosen][:5]
        yield {
            "temperature": learned.item(),
            "top_p": top_p.item(),
            "nucleus_size": int(kept.sum()),
            "rank": int((base > base[chosen]).sum()) + 1,
            "base_entropy": -torch.special.xlogy(base, base).sum().item(),
            "entropy": -torch.special.xlogy(final, final).sum().item(),
            "base_probability": base[chosen].item(),
            "probability": final[chosen].item(),
            "alternatives": [(one, base[one].item(), final[one].item()) for one in others],
        }


@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.7])
def test_numbers_are_those_of_the_definition(model, temperature, backend):
    made = trace_text(model, TOKENIZER, PROMPT, COMPLETION, temperature=temperature)
    expected = list(expected_rows(model, PROMPT, COMPLETION, temperature))
    assert 1 < max(row["nucleus_size"] for row in expected) < len(TOKENIZER)
    for found, row in zip(made.tokens, expected, strict=True):
        alternatives = row.pop("alternatives")
        assert {name: getattr(found, name) for name in row} == pytest.approx(row, rel=1e-4, abs=1e-6)
        assert [one.token_id for one in found.alternatives] == [one[0] for one in alternatives]
        for one, (_, base, final) in zip(found.alternatives, alternatives, strict=True):
            assert (one.base_probability, one.probability) == pytest.approx((base, final), rel=1e-4, abs=1e-6)


def test_text_and_header(model):
    completion = [*TOKENIZER.encode("h€", add_special_tokens=False), 2]
    made = trace_text(model, TOKENIZER, PROMPT, completion, name="mine", settings={"seed": 4})
    assert [token.text for token in made.tokens] == ["h", "", "", "€", "<|im_end|>"]
    assert [token.partial_bytes for token in made.tokens] == [None, "e2", "82", "ac", None]
    assert [token.special for token in made.tokens] == [False, False, False, False, True]
    assert made.header.model == "mine"
    assert made.header.prompt == TOKENIZER.decode(PROMPT)
    assert made.header.strategy == "autodeco"
    assert made.header.settings == {"seed": 4, "temperature_factor": 1.0}
    assert {"autodeco", "torch", "transformers"} <= made.header.versions.keys()


def test_nuclei_at_temperatures_below_the_smallest_divisor():
    base = tiny_llama(vocab_size=len(TOKENIZER))
    heads = DecodingHeads(AutoDecoConfig(hidden_size=32, vocab_size=len(TOKENIZER), min_temperature=0.5))
    with torch.no_grad():
        heads.temp_head.mlp[2].bias.fill_(-5)  # T near 0.01
        heads.top_p_head.mlp[2].bias.fill_(50)  # P = 1
    made = trace_text(AutoDecoForCausalLM.from_base(base, heads=heads), TOKENIZER, PROMPT, COMPLETION)
    assert all(token.temperature < 0.1 for token in made.tokens)
    assert {token.nucleus_size for token in made.tokens} == {len(TOKENIZER)}


def test_long_texts_are_worked_on_in_slices(model, monkeypatch):
    whole = trace_text(model, TOKENIZER, PROMPT, COMPLETION)
    monkeypatch.setattr("autodeco.trace.make._SLICE_ELEMENTS", 2 * len(TOKENIZER))
    sliced = trace_text(model, TOKENIZER, PROMPT, COMPLETION)
    for one, other in zip(whole.tokens, sliced.tokens, strict=True):
        assert one.probability == pytest.approx(other.probability, rel=1e-5)
        assert one.nucleus_size == other.nucleus_size


def test_strategies_and_the_bare_base(model):
    with model.decode_with("static:temperature=0.5,top_k=3"):
        made = trace_text(model, TOKENIZER, PROMPT, COMPLETION)
    assert made.header.strategy == "static:temperature=0.5,top_k=3"
    assert {token.nucleus_size for token in made.tokens} == {3}
    assert {token.temperature for token in made.tokens} == {0.5}
    with model.disable_heads():
        made = trace_text(model, TOKENIZER, PROMPT, COMPLETION)
    assert made.header.strategy == "default"
    assert all(token.probability == token.base_probability for token in made.tokens)
    assert {token.nucleus_size for token in made.tokens} == {len(TOKENIZER)}


def generated(model, prompts, **options):
    torch.manual_seed(0)
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    return model.generate(ids, attention_mask=(ids != 0).long(), trace=True, max_new_tokens=12, **options)


def test_a_generation_of_several_rows(model):
    prompts = [PROMPT, PROMPT[:2]]
    output = generated(model, prompts, eos_token_id=[2, *range(100, 140)], pad_token_id=0)
    for row, prompt in enumerate(prompts):
        made = trace_generation(model, TOKENIZER, output, prompt, row=row)
        recorded = output.temperature[row]
        recorded = recorded[~recorded.isnan()]
        assert [token.temperature for token in made.tokens] == pytest.approx(recorded.tolist(), rel=1e-3)
        entropies = output.entropy[row][: len(recorded)].tolist()
        assert [token.entropy for token in made.tokens] == pytest.approx(entropies, rel=1e-3, abs=1e-4)
        assert all(token.probability > 0 for token in made.tokens)


def test_a_generation_of_another_prompt_is_refused(model):
    output = generated(model, [PROMPT])
    output.temperature += 0.5
    with pytest.raises(DataError, match="that generated"):
        trace_generation(model, TOKENIZER, output, PROMPT)


def test_what_cannot_be_traced(model):
    with pytest.raises(DataError, match="a prompt of at least one token"):
        trace_text(model, TOKENIZER, [], COMPLETION)
    with pytest.raises(DataError, match="a completion of at least one token"):
        trace_text(model, TOKENIZER, PROMPT, [])
    with pytest.raises(DataError, match="token id 100000 is not in the model's vocabulary of 261"):
        trace_text(model, TOKENIZER, PROMPT, [100000])


@pytest.mark.parametrize("decoding", ["certain", {"top_p": 0.5}], ids=str)
def test_a_steered_generation_is_traced_while_steered_and_refused_otherwise(model, decoding):
    ids = torch.tensor([PROMPT])
    output = model.generate(ids, max_new_tokens=6, min_new_tokens=6, decoding=decoding, trace=True)
    with steering(model, decoding):
        trace = trace_generation(model, TOKENIZER, output, PROMPT)
    assert [token.temperature for token in trace.tokens] == pytest.approx(output.temperature[0].tolist(), rel=1e-3)
    assert [token.top_p for token in trace.tokens] == pytest.approx(output.top_p[0].tolist(), rel=1e-3)
    assert [token.entropy for token in trace.tokens] == pytest.approx(output.entropy[0].tolist(), abs=1e-3)
    assert trace.header.strategy == f"autodeco, decoding={decoding!r}"
    with pytest.raises(DataError, match="this pass and that which generate recorded differ"):
        trace_generation(model, TOKENIZER, output, PROMPT)
