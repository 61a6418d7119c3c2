"""What heads choose on training trajectories, against the model's own forward pass over one at a time."""

import json

import pytest
import torch

from autodeco import AutoDecoForCausalLM
from autodeco.errors import DataError
from autodeco.evaluation.config import ModelEntry
from autodeco.evaluation.measured import _choices, measured_strategies
from autodeco.evaluation.prepare import PreparedModel, PreparedTask
from autodeco.evaluation.trajectories import Trajectory
from autodeco.files import sha256_of
from autodeco.tasks.base import Example
from autodeco.training.tokenize import TokenizedRow
from tests.conftest import tiny_llama


def test_a_task_that_is_added_later_is_checked_too(tmp_path):
    example = Example("p0", [{"role": "user", "content": "1 + 1 = ?"}], "2")
    task = PreparedTask(task=None, label="sums", split="test", examples=[example], validation=[], max_new_tokens=8)
    data = tmp_path / "train.jsonl"
    data.write_text(json.dumps({"prompt": example.messages, "completion": [{"role": "assistant", "content": "2"}]}))
    model = PreparedModel(ModelEntry(path="heads"), ["mean-shift"], "hash")
    place = tmp_path / "run" / "measured" / "heads"
    place.mkdir(parents=True)
    means = {
        "means": {"temperature": 0.5, "top_p": 1.0},
        "data_sha256": sha256_of(data),
        "weights": "hash",
        "base": None,
    }
    (place / "means.json").write_text(json.dumps(means))
    given = (data, tmp_path / "run", "auto", print)
    assert measured_strategies(model, [], *given)["mean-shift"].spec == "mean-shift:temperature=0.5,top_p=1"
    with pytest.raises(DataError, match=r"a problem that is evaluated here \(sums\)"):
        measured_strategies(model, [task], *given)


@pytest.mark.parametrize("prompt_summary", [False, True])
def test_choices_are_those_of_the_forward_pass_at_the_completions_tokens(prompt_summary):
    torch.manual_seed(0)
    model = AutoDecoForCausalLM.from_base(tiny_llama(), prompt_summary=prompt_summary)
    with torch.no_grad():
        for name, parameter in model.decoding_heads.named_parameters():
            parameter.normal_() if ".prompt." in name else parameter.mul_(3)
    rows = [
        TokenizedRow("row", torch.randint(3, 128, (length,)).tolist(), prompt)
        for length, prompt in ((9, 4), (5, 1), (12, 11))
    ]
    found = _choices(model, [Trajectory("0", "prompt", row) for row in rows])
    expected = []
    for row in sorted(rows, key=lambda row: -len(row.input_ids)):  # longest first, as they are run
        ids = torch.tensor([row.input_ids])
        mask = torch.arange(ids.shape[1]).unsqueeze(0) < row.prompt_length
        with torch.no_grad():
            output = model(ids, prompt_mask=mask if prompt_summary else None)
        span = slice(row.prompt_length - 1, -1)
        expected.append(torch.stack([output.temperature[0, span], output.top_p[0, span]]))
    torch.testing.assert_close(torch.stack(found), torch.cat(expected, dim=1), rtol=1e-5, atol=1e-5)
