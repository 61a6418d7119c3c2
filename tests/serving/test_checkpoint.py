"""What an engine is told to load, for everything that a user can name."""

import json
import shutil

import pytest
from tests.adapters import adapted_model

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import convert, merge
from autodeco.checkpoint.layout import HEADS_CONFIG
from autodeco.errors import CheckpointError, ConfigError, ModelNotFoundError
from autodeco.serving.checkpoint import check_vllm, served_model
from autodeco.serving.vllm import launch


@pytest.fixture
def heads(base_folder, tmp_path):
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    return tmp_path / "heads"


def test_heads_bring_the_base_they_record(heads, base_folder, tmp_path):
    served = served_model(str(heads), scratch=tmp_path / "scratch")
    assert (served.path, served.heads) == (str(base_folder), heads)
    assert (served.architecture, served.name) == ("LlamaForCausalLM", "heads")


def test_a_base_with_heads_of_its_own_choice(heads, base_folder, tmp_path):
    served = served_model(str(base_folder), heads=str(heads), scratch=tmp_path / "scratch")
    assert (served.path, served.heads, served.name) == (str(base_folder), heads, "base")


@pytest.mark.parametrize("layout", ["merged", "released-full"])
def test_a_checkpoint_with_its_base_is_served_as_it_is(heads, tmp_path, layout):
    if layout == "merged":
        merge(None, heads, tmp_path / "whole")
    else:
        convert(heads, tmp_path / "whole", layout)
    served = served_model(str(tmp_path / "whole"), scratch=tmp_path / "scratch")
    assert (served.path, served.heads, served.architecture) == (str(tmp_path / "whole"), None, None)
    with pytest.raises(CheckpointError, match="holds its base model"):
        served_model(str(tmp_path / "whole"), base="other", scratch=tmp_path / "scratch")
    with pytest.raises(CheckpointError, match="heads of its own"):
        served_model(str(tmp_path / "whole"), heads=str(heads), scratch=tmp_path / "scratch")


def test_released_heads_are_rewritten_for_the_engine(heads, base_folder, tmp_path):
    convert(heads, tmp_path / "released", "released-heads")
    served = served_model(str(tmp_path / "released"), base=str(base_folder), scratch=tmp_path)
    assert (served.heads / "autodeco_heads.safetensors").exists()
    assert served.heads.parent == tmp_path


def test_what_cannot_be_served_is_said(base_folder, heads, tmp_path):
    with pytest.raises(CheckpointError, match=r"plain base model\. Name its heads"):
        served_model(str(base_folder), scratch=tmp_path)
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        served_model(str(tmp_path / "nothing"), scratch=tmp_path)
    shutil.rmtree(base_folder)
    with pytest.raises(ModelNotFoundError):
        served_model(str(heads), scratch=tmp_path)


def test_arguments_of_the_engine(heads, tmp_path):
    served = served_model(str(heads), scratch=tmp_path / "scratch")
    found = launch.arguments(served, ["--max-model-len", "64"], on_cpu=True)
    assert found[0] == served.path
    overrides = json.loads(found[found.index("--hf-overrides") + 1])
    assert overrides == {"architectures": ["AutoDecoLlamaForCausalLM"], "autodeco": {"heads": str(heads)}}
    assert found[found.index("--generation-config") + 1] == "vllm"
    assert "--logits-processors" in found
    assert found[-2:] == ["--max-model-len", "64"]
    assert "--logits-processors" not in launch.arguments(served, ["--speculative-config", "{}"], on_cpu=True)
    assert "--logits-processors" not in launch.arguments(served, [], on_cpu=False)
    with pytest.raises(ConfigError, match="--hf-overrides is set by autodeco serve"):
        launch.arguments(served, ["--hf-overrides={}"], on_cpu=True)


def test_heads_that_see_a_summary_of_the_prompt(heads, base_folder, tmp_path):
    model = AutoDecoForCausalLM.from_base(str(base_folder), prompt_summary=True)
    model.save_pretrained(tmp_path / "with-summary")
    summary = str(tmp_path / "with-summary")
    for arguments in ((summary,), (str(base_folder), summary)):
        check_vllm(*arguments, on_cpu=True)
        with pytest.raises(CheckpointError, match=r"with-summary/.*on CPUs alone.*--engine transformers"):
            check_vllm(*arguments, on_cpu=False)
    check_vllm(str(heads), on_cpu=False)
    check_vllm(str(base_folder), str(heads), on_cpu=False)
    found = launch.arguments(served_model(summary, scratch=tmp_path / "scratch"), [], on_cpu=True)
    assert found[found.index("--logits-processors") + 1] == "autodeco.serving.vllm.requests:PromptOptions"
    assert {"--no-enable-prefix-caching", "--enforce-eager"} <= set(found)
    found = launch.arguments(served_model(str(heads), scratch=tmp_path / "scratch"), [], on_cpu=True)
    assert found[found.index("--logits-processors") + 1] == "autodeco.serving.vllm.requests:RequestOptions"
    assert "--no-enable-prefix-caching" not in found


def test_heads_that_see_a_summary_of_the_prompt_and_an_adapter_are_for_transformers(base_folder, tmp_path):
    adapted_model(base_folder).save_pretrained(tmp_path / "adapted")
    path = tmp_path / "adapted" / HEADS_CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), "prompt_summary": True}))
    with pytest.raises(CheckpointError, match=r"adapted/.*and an adapter.*--engine transformers"):
        check_vllm(str(tmp_path / "adapted"), on_cpu=True)


def test_heads_that_see_a_summary_of_the_prompt_are_not_merged(heads, base_folder, tmp_path):
    model = AutoDecoForCausalLM.from_base(str(base_folder), prompt_summary=True)
    model.save_pretrained(tmp_path / "with-summary")
    summary = str(tmp_path / "with-summary")
    with pytest.raises(CheckpointError, match=r"these heads see a summary .* merged checkpoints cannot hold"):
        merge(None, summary, tmp_path / "merged")
    with pytest.raises(CheckpointError, match="these heads see a summary"):
        convert(summary, tmp_path / "merged", "merged")
    for layout in ("released-heads", "released-full"):
        with pytest.raises(CheckpointError, match="prompt_summary is True, and the released layout"):
            convert(summary, tmp_path / "released", layout)
    assert not (tmp_path / "merged").exists()
    assert not (tmp_path / "released").exists()
    assert "They cannot be merged" in (tmp_path / "with-summary" / "README.md").read_text()
    assert "summary" not in (heads / "README.md").read_text().split("```json")[0]
