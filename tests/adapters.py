"""A tiny base with an adapter and heads, for tests: every layer moved, so that leaving it out shows."""

from __future__ import annotations

import torch

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import load_base
from autodeco.checkpoint.adapter import adapter_parameters, add_adapter


def adapted_model(base_folder, **kwargs):
    base = load_base(base_folder, **kwargs)
    add_adapter(base, rank=4, alpha=8, targets="all-linear")
    model = AutoDecoForCausalLM.from_base(base)
    with torch.no_grad():
        for parameter in adapter_parameters(model):
            parameter.normal_(0, 0.2)
        for parameter in model.decoding_heads.parameters():
            parameter.mul_(3)
    return model
