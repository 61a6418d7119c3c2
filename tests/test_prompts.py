"""The prompt's summary in Transformers: one pass, token by token, batches, beams, caches. Tiny random models."""

import copy

import pytest
import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from autodeco import AutoDecoForCausalLM, objectives
from autodeco.errors import CheckpointError, ConfigError
from autodeco.trace.make import trace_text
from tests.conftest import tiny_autodeco, tiny_llama

PROMPT = 7


@pytest.fixture(params=[0, 1], ids=["last states", "states after layer 1"])
def model(request):
    """Heads whose choices depend visibly on the prompt's summary."""
    model = AutoDecoForCausalLM.from_base(
        tiny_llama(eos_token_id=None), prompt_summary=True, prompt_layer=request.param
    )
    with torch.no_grad():
        for name, parameter in model.decoding_heads.named_parameters():
            parameter.normal_(std=0.3) if ".prompt." in name else parameter.mul_(3)
    return model


@pytest.fixture
def prompt():
    return torch.randint(3, 128, (1, PROMPT))


def sample(model, ids, **options):
    torch.manual_seed(1)
    settings = {"max_new_tokens": 6, "do_sample": True, "trace": True, **options}
    return model.generate(ids, **settings)


def forced(model, sequences, prompt_length, mask=None):
    """T and P of the tokens after the prompt, from one pass over all."""
    prompt_mask = torch.zeros_like(sequences)
    prompt_mask[:, :prompt_length] = 1 if mask is None else mask
    attention = torch.ones_like(sequences)
    if mask is not None:
        attention[:, :prompt_length] = mask
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        output = model(sequences, attention_mask=attention, position_ids=positions, prompt_mask=prompt_mask)
    return output.temperature[:, prompt_length - 1 : -1], output.top_p[:, prompt_length - 1 : -1]


def assert_choices(output, expected):
    torch.testing.assert_close(output.temperature, expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.top_p, expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"use_cache": False}, {"prefill_chunk_size": 3}, {"cache_implementation": "static"}, {"do_sample": False}],
)
def test_token_by_token_as_in_one_pass(model, prompt, options):
    output = sample(model, prompt, **options)
    assert output.sequences.shape[1] == PROMPT + 6
    assert_choices(output, forced(model, output.sequences, PROMPT))


def test_the_summary_is_of_the_prompt_alone(model, prompt):
    output = sample(model, prompt)
    everything = model(output.sequences).temperature[:, PROMPT - 1 : -1]
    assert not torch.allclose(output.temperature, everything, atol=1e-3)
    # The same tokens after the same prompt, whatever came of it later: a longer text has the same summary.
    longer = forced(model, torch.cat([output.sequences, prompt], 1), PROMPT)[0][:, :6]
    torch.testing.assert_close(longer, output.temperature, rtol=1e-4, atol=1e-5)


def test_padding_on_the_left_changes_nothing(model, prompt):
    other = torch.randint(3, 128, (1, 4))
    padded = torch.cat([prompt, torch.cat([torch.zeros(1, PROMPT - 4, dtype=torch.long), other], 1)])
    mask = padded.ne(0).long()
    output = sample(model, padded, attention_mask=mask)
    assert_choices(output, forced(model, output.sequences, PROMPT, mask))
    alone = forced(model, output.sequences[1:, PROMPT - 4 :], 4)
    torch.testing.assert_close(output.temperature[1:], alone[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.top_p[1:], alone[1], rtol=1e-4, atol=1e-5)
    inferred = sample(model, padded)  # generate infers the mask from the padding token, and so does the summary
    assert inferred.sequences.equal(output.sequences)
    assert_choices(inferred, (output.temperature, output.top_p))


def test_padding_on_the_right_and_in_one_pass(model, prompt):
    alone = model(prompt)
    padded = torch.cat([prompt, torch.zeros(1, 3, dtype=torch.long)], 1)
    found = model(padded, attention_mask=padded.ne(0).long())
    torch.testing.assert_close(found.temperature[:, :PROMPT], alone.temperature, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.prompt_summary, alone.prompt_summary, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"num_beams": 3, "do_sample": False}, {"num_return_sequences": 2}, {"num_beams": 2}]
)
def test_beams_and_several_sequences_keep_their_own_prompt(model, options):
    prompts = torch.randint(3, 128, (2, PROMPT))
    reference = sample(model, prompts, trace=False, output_logits=True, return_dict_in_generate=True, **options)
    traced = sample(model, prompts, **options)
    assert traced.sequences.equal(reference.sequences)
    assert_choices(traced, forced(model, traced.sequences, PROMPT))


def test_beam_search_finds_what_it_finds_for_one_prompt_alone(model):
    """Logits on the way are those of the right prompt: scores of beams would differ otherwise."""
    prompts = torch.randint(3, 128, (2, PROMPT))
    options = {"num_beams": 3, "do_sample": False, "trace": False, "return_dict_in_generate": True,
               "output_scores": True}  # fmt: skip
    both = sample(model, prompts, **options)
    for index in range(2):
        alone = sample(model, prompts[index : index + 1], **options)
        assert alone.sequences[0].equal(both.sequences[index])
        torch.testing.assert_close(alone.sequences_scores[0], both.sequences_scores[index], rtol=1e-3, atol=1e-3)


def test_assisted_decoding(model, prompt):
    assistant = tiny_llama()
    output = sample(model, prompt, do_sample=False, trace=False, assistant_model=assistant)
    assert output.equal(sample(model, prompt, do_sample=False, trace=False))
    traced = sample(model, prompt, assistant_model=assistant)
    assert_choices(traced, forced(model, traced.sequences, PROMPT))


def test_a_conversation_goes_on_with_its_cache(model, prompt):
    """The second turn's prompt is all before it: the first prompt, its answer and the new question."""
    cache = DynamicCache(config=model.config)
    first = sample(model, prompt, past_key_values=cache)
    second_prompt = torch.cat([first.sequences, torch.randint(3, 128, (1, 5))], 1)
    mask = torch.ones_like(second_prompt)
    expected = sample(model, second_prompt, attention_mask=mask)
    found = sample(model, second_prompt, attention_mask=mask, past_key_values=copy.deepcopy(cache))
    assert found.sequences.equal(expected.sequences)
    assert_choices(found, (expected.temperature, expected.top_p))
    assert_choices(found, forced(model, found.sequences, second_prompt.shape[1]))
    only_new = second_prompt[:, cache.get_seq_length() :]
    with pytest.raises(ConfigError, match=r"in past_key_values alone\. Give generate the whole prompt"):
        sample(model, only_new, attention_mask=mask, past_key_values=cache)


def test_a_completion_goes_on_with_the_summary_of_its_prompt(model):
    """In two calls what one call does: the tokens of the first are no prompt of the second."""
    prompts = torch.randint(3, 128, (2, PROMPT))
    mask = torch.ones_like(prompts)
    first = sample(model, prompts, attention_mask=mask, num_return_sequences=2, max_new_tokens=3)
    assert first.prompt_summary.shape == (2, 512)
    torch.testing.assert_close(first.prompt_summary, model(prompts).prompt_summary, rtol=1e-4, atol=1e-5)
    options = {"attention_mask": torch.ones_like(first.sequences), "prompt_summary": first.prompt_summary}
    for further in ({}, {"past_key_values": first.past_key_values}, {"num_beams": 2}):
        second = sample(model, first.sequences, **options, **further)
        expected = [values[:, 3:] for values in forced(model, second.sequences, PROMPT)]
        assert_choices(second, expected)
    steered = sample(model, first.sequences, **options, decoding={"top_p": 0.9})
    # Steering keeps to the smallest temperature that logits are divided by.
    expected = forced(model, steered.sequences, PROMPT)[0][:, 3:].clamp(min=model.autodeco_config.min_temperature)
    torch.testing.assert_close(steered.temperature, expected, rtol=1e-4, atol=1e-5)


def test_a_loop_of_ones_own_passes_the_summary_on(model, prompt):
    output = model(prompt, use_cache=True)
    cache = output.past_key_values
    sequence, temperatures = prompt, [output.temperature[:, -1]]
    for _ in range(3):
        token = output.logits[:, -1:].argmax(-1)
        sequence = torch.cat([sequence, token], 1)
        with pytest.raises(ConfigError, match=r"prompt_summary=output\.prompt_summary"):
            model(token, past_key_values=cache)
        output = model(token, past_key_values=cache, prompt_summary=output.prompt_summary)
        temperatures.append(output.temperature[:, -1])
    found = torch.stack(temperatures[:-1], 1)
    torch.testing.assert_close(found, forced(model, sequence, PROMPT)[0], rtol=1e-4, atol=1e-5)


def test_embeddings_as_prompt(model, prompt):
    expected = sample(model, prompt, trace=False)
    embeddings = model.get_input_embeddings()(prompt)
    assert sample(model, None, trace=False, inputs_embeds=embeddings).equal(expected[:, PROMPT:])


def test_calls_within_calls_and_errors_leave_no_trace(model, prompt):
    options = {"trace": False, "return_dict_in_generate": True, "output_logits": True}
    expected, other = sample(model, prompt, **options), torch.randint(3, 128, (1, 3))

    def with_a_call(input_ids, scores):
        model.generate(other, max_new_tokens=2, do_sample=False)
        return scores

    nested = sample(model, prompt, logits_processor=[with_a_call], **options)
    assert nested.sequences.equal(expected.sequences)
    torch.testing.assert_close(torch.stack(nested.logits), torch.stack(expected.logits))
    with pytest.raises(ValueError, match="not used"):
        sample(model, prompt, no_such_option=1)
    torch.testing.assert_close(model(prompt).logits[:, -1], expected.logits[0], rtol=1e-4, atol=1e-4)


def test_disabled_heads_and_other_strategies(model, prompt):
    with model.disable_heads():
        assert model(prompt).logits.equal(LlamaForCausalLM.forward(model, prompt).logits)
    with model.decode_with("temperature-head"):
        assert sample(model, prompt).top_p.eq(1).all()
    steered = sample(model, prompt, decoding={"temperature": 0.5})
    assert steered.temperature.eq(0.5).all()


def test_a_trace_of_a_text_is_that_of_its_generation(model, prompt, tokenizer):
    output = sample(model, prompt)
    found = trace_text(model, tokenizer, prompt[0].tolist(), output.sequences[0, PROMPT:].tolist())
    torch.testing.assert_close(
        torch.tensor([token.temperature for token in found.tokens]), output.temperature[0], rtol=1e-3, atol=1e-4
    )


def test_what_cannot_be_a_prompt_is_refused(model, prompt):
    with pytest.raises(ConfigError, match=r"prompt_mask must say .*\[1, 7\], found \[1, 3\]"):
        model(prompt, prompt_mask=torch.ones(1, 3))
    summary = model(prompt).prompt_summary
    with pytest.raises(ConfigError, match="say the same twice"):
        model(prompt, prompt_mask=torch.ones(1, PROMPT), prompt_summary=summary)
    with pytest.raises(ConfigError, match="an objective trains the summary of the prompt"):
        model(prompt, labels=prompt, objective=objectives.fused.end_to_end, prompt_summary=summary)
    with pytest.raises(ConfigError, match="2 rows, and there are 3 prompts"):
        model(prompt.repeat(2, 1), prompt_summary=summary.repeat(3, 1))
    with pytest.raises(ConfigError, match="cannot be told from this attention mask"):
        model(prompt, attention_mask=torch.zeros(1, 1, PROMPT, PROMPT))
    plain = tiny_autodeco()
    for name in ("prompt_mask", "prompt_summary"):
        with pytest.raises(ConfigError, match="see no summary of the prompt"):
            plain(prompt, **{name: torch.ones(1, PROMPT)})
    with pytest.raises(ConfigError, match="see no summary of the prompt"):
        plain.generate(prompt, prompt_summary=summary)
    assert plain(prompt).prompt_summary is None


def test_trained_heads_extended_by_a_summary_decode_exactly_as_before(prompt):
    base = tiny_llama()
    plain = AutoDecoForCausalLM.from_base(copy.deepcopy(base))
    extended = AutoDecoForCausalLM.from_base(base, heads=plain.decoding_heads.with_prompt_summary())
    one, other = sample(plain, prompt), sample(extended, prompt)
    for name in ("sequences", "temperature", "top_p", "entropy"):
        assert one[name].equal(other[name])


def test_torch_compile_gives_the_same_numbers(model, prompt):
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(prompt).logits, model(prompt).logits)


def test_layers_that_are_not_there_are_named():
    heads = AutoDecoForCausalLM.from_base(tiny_llama()).decoding_heads
    with pytest.raises(CheckpointError, match=r"after layer 3 \(prompt_layer\), and the base has 2 layers"):
        AutoDecoForCausalLM.from_base(tiny_llama(), heads=heads.with_prompt_summary(3))
    config = GPT2Config(vocab_size=128, n_embd=32, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    with pytest.raises(ConfigError, match="prompt_layer: GPT2Model does not keep its layers in one list"):
        AutoDecoForCausalLM.from_base(GPT2LMHeadModel(config), heads=heads.with_prompt_summary(1))
