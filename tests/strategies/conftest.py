"""Fixtures of the strategies' tests: rows of logits that cover what engines produce, heads, a bank of pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from autodeco import AutoDecoConfig, DecodingHeads
from autodeco.strategies import save_bank

HIDDEN_SIZE = 8


@st.composite
def logit_rows(draw, max_rows=4, max_vocab=40, forbidden=True):
    """``[rows, V]``: spread or flat, with ties, and with tokens forbidden by ``-inf``, never all of a row."""
    rows, vocab = draw(st.integers(1, max_rows)), draw(st.integers(1, max_vocab))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn(rows, vocab, generator=generator) * draw(st.sampled_from([0.0, 0.01, 1.0, 4.0, 30.0]))
    if draw(st.booleans()):
        logits = logits.round()  # ties
    if forbidden and draw(st.booleans()):
        logits = logits.masked_fill(torch.rand(rows, vocab, generator=generator) < 0.3, float("-inf"))
        logits[:, draw(st.integers(0, vocab - 1))] = 0.5
    return logits


def hidden(logits: Tensor) -> Tensor:
    return torch.linspace(-1, 1, HIDDEN_SIZE).expand(*logits.shape[:-1], HIDDEN_SIZE)


def distinct_heads() -> DecodingHeads:
    """Random heads whose temperatures and top-p differ visibly from row to row."""
    torch.manual_seed(1)
    heads = DecodingHeads(AutoDecoConfig(hidden_size=HIDDEN_SIZE)).requires_grad_(False)
    for parameter in heads.parameters():
        parameter.mul_(3)
    return heads


@pytest.fixture
def heads() -> DecodingHeads:
    return distinct_heads()


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bank") / "pairs, of a run.safetensors"
    save_bank(path, torch.tensor([0.4, 0.9, float("nan"), 1.3]), torch.tensor([0.7, 0.95, float("nan"), 0.5]))
    return path


def log(*probabilities: float) -> Tensor:
    """One row of logits ``[1, V]`` with given probabilities."""
    return torch.tensor([probabilities], dtype=torch.float64).log().float()


def kept_tokens(shaped) -> list[list[int]]:
    """Token ids with a probability above 0, of each row."""
    return [row.nonzero().flatten().tolist() for row in shaped.logits.softmax(-1) > 0]
