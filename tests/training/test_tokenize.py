import pytest

from autodeco.errors import DataError
from autodeco.training.rows import Row
from autodeco.training.tokenize import tokenize_rows

PROMPT = [{"role": "user", "content": "2+2?"}]
ANSWER = [{"role": "assistant", "content": "4"}]


def tokenize(tokenizer, *values, max_length=200, **kwargs):
    rows = [Row(f"data.jsonl:{n}", value, None) for n, value in enumerate(values, start=1)]
    return tokenize_rows(rows, tokenizer, max_length, end_of_text_ids={tokenizer.eos_token_id}, **kwargs)


def parts(tokenizer, row):
    return tokenizer.decode(row.input_ids[: row.prompt_length]), tokenizer.decode(row.input_ids[row.prompt_length :])


@pytest.mark.parametrize("row", [{"prompt": PROMPT, "completion": ANSWER}, {"messages": PROMPT + ANSWER}])
def test_a_conversation_is_rendered_once_and_ends_with_the_end_of_turn(tokenizer, row):
    prompt, completion = parts(tokenizer, tokenize(tokenizer, row).rows[0])
    assert prompt == "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"  # no BOS that the template lacks
    assert completion == "4<|im_end|>"  # the template's newline after it was never generated


def test_text_gets_the_tokenizers_own_bos_and_an_end(tokenizer):
    prompt, completion = parts(tokenizer, tokenize(tokenizer, {"prompt": "2+2=", "completion": "4"}).rows[0])
    assert prompt == "<s>2+2="
    assert completion == "4<|im_end|>"


def test_sampled_token_ids_are_used_as_they_are(tokenizer):
    prompt_ids = tokenizer("x", add_special_tokens=False).input_ids
    completion_ids = [*tokenizer("4", add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    row = {"prompt": PROMPT, "completion": ANSWER, "prompt_ids": prompt_ids, "completion_ids": completion_ids}
    example = tokenize(tokenizer, row).rows[0]
    assert example.input_ids == prompt_ids + completion_ids
    assert example.prompt_length == 1
    row["completion_ids"] = tokenizer("9", add_special_tokens=False).input_ids  # of another tokenizer
    assert parts(tokenizer, tokenize(tokenizer, row).rows[0])[1] == "4<|im_end|>"


def test_only_the_last_assistant_turn_is_the_completion(tokenizer):
    messages = [*PROMPT, *ANSWER, {"role": "user", "content": "sure?"}, {"role": "assistant", "content": "yes"}]
    prompt, completion = parts(tokenizer, tokenize(tokenizer, {"messages": messages}).rows[0])
    assert "4<|im_end|>" in prompt
    assert completion == "yes<|im_end|>"


def test_long_rows_are_cut_and_counted(tokenizer):
    data = tokenize(tokenizer, {"prompt": "ab", "completion": "c" * 50}, max_length=20)
    assert len(data.rows[0].input_ids) == 20
    assert (data.truncated, data.truncated_tokens) == (1, 34)  # <s>ab + 50 + end = 54
    assert "1 rows cut at the maximum length, 34 tokens lost" in data.summary()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a", "answer": "b"}, "found the keys answer, question; needed 'prompt' and 'completion'"),
        ({}, r"found the keys \(none\)"),
        ({"prompt": "a", "completion": "  "}, "the completion is empty"),
        ({"prompt": PROMPT, "completion": [{"role": "assistant", "content": ""}]}, "the completion is empty"),
        ({"prompt": "a", "completion": ANSWER}, "must both be text or both be lists"),
        ({"messages": PROMPT}, "must end with an assistant message"),
        ({"messages": "hello"}, "must be a list of messages, found str"),
        ({"messages": [{"text": "hello"}]}, "needs 'role' and 'content'"),
        ({"prompt": "a", "completion": "b", "weight": "heavy"}, "'weight' must be a number .* found 'heavy'"),
        ({"prompt": "a", "completion": "b", "weight": float("nan")}, "found nan"),
        ({"prompt": "a", "completion": "b", "weight": 10**400}, "from -1,000,000 to 1,000,000"),
        ({"prompt": "a", "completion": "b", "weight": True}, "found True"),
        ({"prompt": "a" * 300, "completion": "b"}, "the prompt has 301 tokens, and the maximum length of 200"),
    ],
)
def test_a_bad_row_is_named_or_skipped(tokenizer, row, message):
    good = {"prompt": "a", "completion": "b"}
    with pytest.raises(DataError, match=rf"data.jsonl:2: .*{message}.*--skip-bad-rows"):
        tokenize(tokenizer, good, row)
    data = tokenize(tokenizer, good, row, skip_bad_rows=True)
    assert len(data.rows) == len(data.skipped) == 1
    assert "1 bad rows skipped" in data.summary()


def test_weights_are_kept_when_a_row_is_cut_and_are_one_by_default(tokenizer):
    text = {"prompt": "ab", "completion": "c" * 50}
    data = tokenize(tokenizer, {**text, "weight": -2}, text, {**text, "weight": None}, max_length=20)
    assert [row.weight for row in data.rows] == [-2, 1, 1]
    assert "rows weigh from -2 to 1, 1 of them less than 0" in data.summary()
    assert "weigh" not in tokenize(tokenizer, text).summary()


def test_nothing_usable_is_an_error(tokenizer):
    with pytest.raises(DataError, match=r"no row can be used.*2 bad rows"):
        tokenize(tokenizer, {}, {}, skip_bad_rows=True)
    with pytest.raises(DataError, match="The data are empty"):
        tokenize(tokenizer)
    with pytest.raises(DataError, match="every row has weight 0"):
        tokenize(tokenizer, {"prompt": "a", "completion": "b", "weight": 0})


def test_a_conversation_needs_a_chat_template(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(DataError, match="no chat template"):
        tokenize(tokenizer, {"messages": PROMPT + ANSWER})


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizer):
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(DataError, match="renders the prompt differently"):
        tokenize(tokenizer, {"messages": PROMPT + ANSWER})
