"""The diagnosis of a model's heads on a file: halves by problem, and the numbers of the model's own forward pass."""

import json

import pytest
import torch

from autodeco import AutoDecoForCausalLM
from autodeco.errors import ConfigError, DataError
from autodeco.evaluation.diagnosis import held_out
from autodeco.evaluation.diagnosis.held_out import diagnose_trajectories
from autodeco.serving.load import load_model_and_tokenizer
from tests.conftest import byte_tokenizer, tiny_llama


@pytest.fixture
def heads(tmp_path, request):
    """A folder with heads; those of an indirect parameter that is true see a summary of the prompt."""
    tokenizer = byte_tokenizer()
    tiny_llama(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    model = AutoDecoForCausalLM.from_base(str(tmp_path / "base"), prompt_summary=getattr(request, "param", False))
    with torch.no_grad():
        for name, parameter in model.decoding_heads.named_parameters():
            parameter.normal_(std=0.3) if ".prompt." in name else parameter.mul_(3)
    model.save_pretrained(tmp_path / "heads")
    return tmp_path / "heads"


@pytest.fixture
def data(tmp_path):
    """Three trajectories of each of eight problems, of different lengths."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Say {problem}"}],
            "completion": [{"role": "assistant", "content": "abcdefgh"[: 3 + sample] * (problem + 1)}],
        }
        for problem in range(8)
        for sample in range(3)
    ]
    path = tmp_path / "right.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("heads", [False, True], indirect=True, ids=["hidden state", "summary of the prompt"])
def test_constants_come_from_one_half_of_the_problems_and_figures_from_the_other(heads, data, monkeypatch):
    halves = []
    split = held_out._halves
    monkeypatch.setattr(held_out, "_halves", lambda rows: halves.append(split(rows)) or halves[-1])
    found = diagnose_trajectories(str(heads), data)
    (first, second), model = halves[0], load_model_and_tokenizer(str(heads))[0]
    assert not {one.problem for one in first} & {one.problem for one in second}
    assert len(first) + len(second) == 24
    assert found.trajectories == len(second)

    def own(trajectories):
        values = []
        for one in trajectories:
            ids, start = torch.tensor([one.tokens.input_ids]), one.tokens.prompt_length
            prompt = torch.arange(ids.shape[1]).unsqueeze(0) < start
            with torch.no_grad():
                output = model(ids, prompt_mask=prompt if model.autodeco_config.prompt_summary else None)
                # As it divides logits: these heads reach below the smallest divisor.
            values.append(output.temperature[0, start - 1 : -1].clamp(min=0.01))
        return torch.cat(values)

    assert found.constants.mean_temperature == pytest.approx(own(first).mean().item(), abs=1e-5)
    assert found.overall.heads_temperature == pytest.approx(own(second).mean().item(), abs=1e-5)
    assert found.overall.tokens == len(own(second))
    assert "of other problems" in found.constants.chosen_on


def test_default_is_the_log_probability_of_the_base(heads, data):
    found = diagnose_trajectories(str(heads), data)
    model, tokenizer = load_model_and_tokenizer(str(heads))
    _, second = held_out._halves(held_out.read_trajectories(data, model, tokenizer))
    total, tokens = 0.0, 0
    for one in second:
        ids = torch.tensor([one.tokens.input_ids])
        with torch.no_grad(), model.disable_heads():
            log_probs = model(ids).logits[0, :-1].log_softmax(-1)
        taken = log_probs.gather(1, ids[0, 1:, None])[one.tokens.prompt_length - 1 :]
        total, tokens = total + taken.sum().item(), tokens + len(taken)
    assert found.overall.default.value == pytest.approx(total / tokens, abs=1e-5)


def test_too_few_problems_and_models_without_heads(heads, data, tmp_path):
    with pytest.raises(ConfigError, match="has no decoding heads"):
        diagnose_trajectories(str(tmp_path / "base"), data)
    few = tmp_path / "few.jsonl"
    few.write_text("".join(data.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(DataError, match="3 trajectories of 1 problems cannot be divided"):
        diagnose_trajectories(str(heads), few)
    with pytest.raises(DataError, match="absent"):
        diagnose_trajectories(str(heads), tmp_path / "absent.jsonl")
