"""What heads choose on training trajectories, against the model's own forward pass over one at a time."""

import pytest
import torch

from autodeco import AutoDecoForCausalLM
from autodeco.evaluation.measured import _choices
from autodeco.evaluation.trajectories import Trajectory
from autodeco.training.tokenize import TokenizedRow
from tests.conftest import tiny_llama


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
