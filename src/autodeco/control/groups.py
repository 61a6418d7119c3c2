"""Training data of control: rollouts, each as a group of rows with the same completion, without and with commands."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from autodeco.control.target import Target
from autodeco.control.versions import Versions
from autodeco.errors import ConfigError, DataError
from autodeco.objectives.control import CommandedRows
from autodeco.objectives.prompt import IGNORED
from autodeco.rollouts.sample import batch_seed
from autodeco.rollouts.sampler import encode
from autodeco.training.rows import Row
from autodeco.training.tokenize import TokenizedData, TokenizedRow, tokenize_rows

# Keys of a batch that say what its rows are asked for: the fields of CommandedRows.
_ASKED = ("group", "commanded", "level", "temperature", "top_p")


@dataclass(frozen=True)
class Group:
    """One prompt and completion without a command (the first row) and with one each.

    Attributes:
        rows: places among all rows.
        targets: what each row is asked for; neutral for the first.
    """

    rows: list[int]
    targets: list[Target]


@dataclass(frozen=True)
class GroupedData:
    """All groups, with the rows that they are made of."""

    tokens: TokenizedData
    groups: list[Group]

    def summary(self) -> str:
        """One paragraph for a person."""
        return f"{len(self.groups):,} prompts with their commands: {self.tokens.summary()}"


def group_rows(
    rows: Iterable[Row],
    tokenizer: Any,
    versions: Versions,
    *,
    seed: int,
    max_length: int,
    completion_tokens: int,
    end_of_text_ids: set[int],
    skip_bad_rows: bool = False,
) -> GroupedData:
    """Tokenises rollouts without and with commands.

    Args:
        rows: as :func:`autodeco.training.rows.read_rows` yields them; prompts must be messages.
        tokenizer: of the base model, with a chat template.
        versions: draws the commands.
        seed: of the draws; those of a row depend on its place alone.
        max_length: tokens of the longest row.
        completion_tokens: completions are cut to so many.
        end_of_text_ids: tokens that end a completion.
        skip_bad_rows: leave bad rows out and count them, instead of stopping at the first.

    Raises:
        DataError: a row that cannot be used (unless skipped), or none that can.
    """
    messages: dict[str, Any] = {}
    plain = tokenize_rows(
        _noting_messages(rows, messages),
        tokenizer,
        max_length,
        end_of_text_ids=end_of_text_ids,
        skip_bad_rows=skip_bad_rows,
    )
    data = TokenizedData(skipped=plain.skipped, truncated_tokens=plain.truncated_tokens)
    groups: list[Group] = []
    for index, row in enumerate(plain.rows):
        random_numbers = random.Random(batch_seed(seed, f"commands of row {index}"))
        try:
            own, targets = _versions_of(row, messages[row.name], tokenizer, versions, random_numbers)
            own = [_cut(one, own, max_length, completion_tokens) for one in own]
        except (DataError, ConfigError) as error:
            if not skip_bad_rows:
                raise
            data.skipped.append(str(error))
            continue
        lost = len(row.input_ids) - len(own[0].input_ids)
        data.truncated += lost > 0
        data.truncated_tokens += lost
        groups.append(Group(list(range(len(data.rows), len(data.rows) + len(own))), targets))
        data.rows.extend(own)
    if not groups:
        raise DataError(f"no row can be used for training. The first: {data.skipped[0]}")
    return GroupedData(data, groups)


def _noting_messages(rows: Iterable[Row], messages: dict[str, Any]) -> Iterator[Row]:
    """Passes rows on and keeps their prompts by name."""
    for row in rows:
        values = row.values or {}
        conversation = values.get("messages")
        messages[row.name] = conversation[:-1] if isinstance(conversation, list) else values.get("prompt")
        yield row


def _versions_of(
    row: TokenizedRow, messages: Any, tokenizer: Any, versions: Versions, random_numbers: random.Random
) -> tuple[list[TokenizedRow], list[Target]]:
    if isinstance(messages, str):
        raise DataError(
            f"{row.name}: commands are placed in conversations, and this prompt is text. Give 'prompt' as messages, as "
            f"autodeco rollout writes it."
        )
    completion = row.input_ids[row.prompt_length :]
    rows, targets = [row], [Target()]
    for version in versions.draw(messages, random_numbers):
        prompt = encode(tokenizer, version.messages)
        rows.append(TokenizedRow(f"{row.name} ({version.command})", [*prompt, *completion], len(prompt)))
        targets.append(version.target)
    return rows, targets


def _cut(row: TokenizedRow, group: list[TokenizedRow], max_length: int, completion_tokens: int) -> TokenizedRow:
    """The row with its completion cut to what every row of the group has room for, so that all have the same."""
    longest_prompt = max(one.prompt_length for one in group)
    room = min(completion_tokens, max_length - longest_prompt)
    if room < 1:
        raise DataError(
            f"{row.name}: with a command the prompt has {longest_prompt:,} tokens, and the maximum length of "
            f"{max_length:,} leaves no room for a completion. Raise max_length or leave the row out."
        )
    return replace(row, input_ids=row.input_ids[: row.prompt_length + room])


class GroupDataset(Dataset[dict[str, Any]]):
    """Groups by index.

    Args:
        rows: a data set of all rows, by index: token ids or stored hidden states.
        groups: of those rows.
    """

    def __init__(self, rows: Dataset[dict[str, Any]], groups: list[Group]) -> None:
        self._rows = rows
        self._groups = groups

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> dict[str, Any]:
        group = self._groups[index]
        return {"rows": [self._rows[row] for row in group.rows], "targets": group.targets}


def collate_groups(
    examples: list[dict[str, Any]], collate_rows: Callable[[list[dict[str, Any]]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Batches groups: their rows one after the other, and for each what it is asked for.

    Args:
        examples: of :class:`GroupDataset`.
        collate_rows: batches rows.
    """
    batch = collate_rows([row for example in examples for row in example["rows"]])
    targets = [target for example in examples for target in example["targets"]]
    sizes = torch.tensor([len(example["rows"]) for example in examples])
    commanded = torch.ones(len(targets), dtype=torch.bool)
    commanded[sizes.cumsum(0) - sizes] = False  # the first of each group
    batch["group"] = torch.arange(len(examples)).repeat_interleave(sizes)
    batch["commanded"] = commanded
    batch["level"] = torch.tensor([target.level for target in targets])
    for head in ("temperature", "top_p"):
        values = [target.value(head) for target in targets]
        batch[head] = torch.tensor([math.nan if value is None else value for value in values])
    return batch


def asked_of(batch: dict[str, Tensor]) -> CommandedRows:
    """What a batch of :func:`collate_groups` says of its rows."""
    return CommandedRows(**{name: batch[name] for name in _ASKED})


def without_some(prompt_mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A mask of prompts with a share of their positions left out at random, never a prompt's first.

    Heads that see such prompts cannot rely on one word of a phrasing.

    Args:
        prompt_mask: ``[B, S]``, true at the prompts' positions.
        share: of the positions, expected.
        generator: of the draw.
    """
    mask = prompt_mask.bool()
    place = (mask.cumsum(-1) - 1).clamp(min=0)  # within its prompt, so that padding makes no difference to the draws
    draws = torch.rand(len(mask), int(mask.sum(-1).max()), generator=generator).to(mask.device)
    return mask & ((draws.gather(-1, place) >= share) | (place == 0))


def sampled_labels(batch: dict[str, Tensor], tokens: int, generator: torch.Generator) -> Tensor:
    """Labels of so many tokens of each completion, drawn at random; -100 at the others.

    The same tokens in every row of a group: what a command does is the difference between its rows at a token.

    Args:
        batch: of :func:`collate_groups`.
        tokens: how many; shorter completions are whole.
        generator: of the draw.

    Returns:
        ``[B, S]``.
    """
    labels, group = batch["labels"], batch["group"]
    given = labels != IGNORED
    place = (given.cumsum(-1) - 1).clamp(min=0)  # within its completion
    lengths = given.sum(-1)
    draws = torch.rand(int(group.max()) + 1, int(lengths.max()), generator=generator).to(labels.device)[group]
    draws[torch.arange(draws.shape[1], device=labels.device) >= lengths.unsqueeze(-1)] = 1.0
    is_drawn = draws.argsort(-1).argsort(-1) < tokens
    return labels.masked_fill(~(given & is_drawn.gather(-1, place)), IGNORED)
