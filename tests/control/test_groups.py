import functools
import json

import pytest
import torch

from autodeco.control import Target, load_commands
from autodeco.control.groups import GroupDataset, asked_of, collate_groups, group_rows, sampled_labels, without_some
from autodeco.control.versions import Versions
from autodeco.errors import DataError
from autodeco.training.batches import RowDataset
from autodeco.training.rows import read_rows
from autodeco.training.run import collate_rows

COUNTS = {"low": 1, "high": 1, "absolute": 1, "lookalike": 1}


@pytest.fixture
def group(tokenizer, rollouts):
    versions = Versions(load_commands(), "train", COUNTS, ["system", "before", "after"])

    def make(**changes):
        settings = {"seed": 0, "max_length": 600, "completion_tokens": 10, "end_of_text_ids": {2}} | changes
        return group_rows(read_rows(str(rollouts)), tokenizer, versions, **settings)

    return make


def completion(row):
    return row.input_ids[row.prompt_length :]


def test_rows_of_a_group_differ_in_the_command_alone(group, tokenizer):
    data = group()
    assert [len(one.rows) for one in data.groups] == [5] * 8
    for one in data.groups:
        rows = [data.tokens.rows[place] for place in one.rows]
        assert one.targets[0] == Target()
        assert len({tuple(completion(row)) for row in rows}) == 1
        prompts = [tokenizer.decode(row.input_ids[: row.prompt_length]) for row in rows]
        task = prompts[0].split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
        assert all(task in prompt for prompt in prompts)
        assert len(set(prompts)) == 5
    assert data.tokens.truncated == 6  # 9 tokens and the end of text are room enough
    assert data.tokens.rows[1].name.endswith(")")


def test_a_row_has_the_same_commands_whatever_is_appended_to_the_data(group, rollouts):
    before = group().tokens.rows
    with rollouts.open("a") as file:
        file.write(rollouts.read_text().splitlines()[0] + "\n")
    assert group().tokens.rows[: len(before)] == before
    assert group(seed=1).tokens.rows != before


def test_completions_are_cut_for_the_longest_prompt_of_the_group(group, rollouts):
    # Completions that no group has room for, beside prompts that all have some room after them.
    rollouts.write_text(rollouts.read_text().replace("A robin", "A robin, " * 40))
    whole, data = group(completion_tokens=500, max_length=2_000), group(completion_tokens=500, max_length=300)
    assert whole.tokens.truncated == 0
    assert data.tokens.truncated == len(data.groups) == 8
    lengths = [
        sum(len(of.tokens.rows[one.rows[0]].input_ids) for one in of.groups)  # without a command
        for of in (whole, data)
    ]
    assert data.tokens.truncated_tokens == lengths[0] - lengths[1]
    for one in data.groups:
        rows = [data.tokens.rows[place] for place in one.rows]
        assert max(len(row.input_ids) for row in rows) == 300
        assert len({len(completion(row)) for row in rows}) == 1


def test_what_cannot_be_used_is_named_or_skipped(group, rollouts):
    with rollouts.open("a") as file:
        file.write(json.dumps({"prompt": "1+1=", "completion": "2"}) + "\n")
    with pytest.raises(DataError, match=r"rollouts.jsonl:9: commands are placed in conversations"):
        group()
    data = group(skip_bad_rows=True)
    assert len(data.groups) == 8
    assert "this prompt is text" in data.tokens.skipped[0]
    with pytest.raises(DataError, match=r"with a command the prompt has \d+ tokens"):
        group(max_length=60)


def test_a_conversation_that_is_none_is_a_bad_row(group, rollouts):
    with rollouts.open("a") as file:
        file.write(json.dumps({"messages": 5}) + "\n")
    with pytest.raises(DataError, match=r"rollouts.jsonl:9: 'messages' must be a list of messages, found int"):
        group()


def test_batches_say_what_each_row_is_asked_for(group):
    data = group()
    dataset = GroupDataset(RowDataset(data.tokens.rows), data.groups)
    batch = collate_groups([dataset[3], dataset[0]], functools.partial(collate_rows, pad_token_id=0))
    asked = asked_of(batch)
    assert batch["input_ids"].shape[0] == 10
    assert asked.group.tolist() == [0] * 5 + [1] * 5
    assert (~asked.commanded).nonzero().flatten().tolist() == [0, 5]
    targets = [*data.groups[3].targets, *data.groups[0].targets]
    for row, target in enumerate(targets):
        assert asked.level[row] == target.level
        for head in ("temperature", "top_p"):
            expected = float("nan") if target.value(head) is None else target.value(head)
            torch.testing.assert_close(getattr(asked, head)[row], torch.tensor(expected), equal_nan=True)


def test_sampled_tokens_are_the_same_in_all_rows_of_a_group():
    labels = torch.full((5, 12), -100)
    for row, (start, length) in enumerate([(2, 6), (5, 6), (1, 6), (3, 2), (4, 2)]):  # two groups, of 6 tokens and 2
        labels[row, start : start + length] = torch.arange(length)
    batch = {"labels": labels, "group": torch.tensor([0, 0, 0, 1, 1])}
    drawn = []
    for seed in range(200):
        sampled = sampled_labels(batch, 3, torch.Generator().manual_seed(seed))
        kept = [row[row != -100].tolist() for row in sampled]
        assert kept[0] == kept[1] == kept[2]
        assert len(kept[0]) == 3
        assert kept[3] == kept[4] == [0, 1]
        assert torch.equal(sampled[sampled != -100], labels[sampled != -100])
        drawn += kept[0]
    assert min(drawn.count(token) for token in range(6)) > 60  # 100 expected of each


def test_some_positions_of_prompts_are_left_out_but_never_the_first():
    mask = torch.zeros(40, 50, dtype=torch.bool)
    mask[:, 5:] = True
    generator = torch.Generator().manual_seed(0)
    left = without_some(mask, 0.25, generator)
    assert not left[:, :5].any()
    assert left[:, 5].all()
    assert left[:, 6:].double().mean() == pytest.approx(0.75, abs=0.03)
    assert without_some(mask.long(), 0.0, generator).equal(mask)
