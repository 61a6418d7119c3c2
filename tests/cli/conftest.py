import pytest
import torch

from autodeco import AutoDecoForCausalLM


@pytest.fixture
def heads(base_folder, tmp_path):
    """A folder with new heads of a tiny base."""
    torch.manual_seed(0)
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    return tmp_path / "heads"
