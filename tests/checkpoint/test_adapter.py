"""One saved folder with heads and LoRA adapter: loaded, looked into, folded into the base, refused."""

import json
import shutil
import sys
import warnings

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import convert, folding, inspect, load_base, load_heads, merge, save_heads, split
from autodeco.checkpoint.adapter import adapter_disabled, adapter_parameters, add_adapter
from autodeco.errors import CheckpointError, ConfigError, MissingDependencyError
from autodeco.serving.checkpoint import served_model, with_adapter_folded
from tests.adapters import adapted_model
from tests.checkpoint.conftest import INPUT_IDS

ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors"}


@pytest.fixture
def model(base_folder):
    return adapted_model(base_folder)


@pytest.fixture
def folder(tmp_path, model):
    model.save_pretrained(tmp_path / "adapted")
    return tmp_path / "adapted"


def outputs(model):
    with torch.no_grad():
        found = model(INPUT_IDS)
    return found.base_logits, found.temperature, found.top_p, found.logits


def assert_same_outputs(one, other, **tolerance):
    for expected, found in zip(outputs(one), outputs(other), strict=True):
        torch.testing.assert_close(found, expected, **tolerance)


def test_one_folder_holds_heads_and_adapter_and_loads_with_nothing_to_set(folder, model, base_folder):
    assert {path.name for path in folder.iterdir()} == {
        "autodeco_config.json", "autodeco_heads.safetensors", "README.md", *ADAPTER_FILES,
    }  # fmt: skip
    loaded = AutoDecoForCausalLM.from_pretrained(folder)
    assert_same_outputs(model, loaded, rtol=0, atol=0)
    plain = AutoDecoForCausalLM.from_base(str(base_folder), heads=model.decoding_heads)
    assert (outputs(plain)[0] - outputs(loaded)[0]).abs().max() > 0.1  # the adapter is not without effect
    tokens = loaded.generate(INPUT_IDS, max_new_tokens=4, do_sample=False)
    assert tokens.equal(model.generate(INPUT_IDS, max_new_tokens=4, do_sample=False))
    assert "LoRA adapter beside them" in (folder / "README.md").read_text()


def test_what_was_loaded_is_saved_again_as_it_was(folder, tmp_path):
    AutoDecoForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "again")
    for name in ("adapter_model.safetensors", "adapter_config.json", "autodeco_heads.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_in_bfloat16_the_adapter_stays_in_float32(base_folder, tmp_path):
    model = adapted_model(base_folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in adapter_parameters(model)} == {torch.float32}
    model.save_pretrained(tmp_path / "adapted")
    assert_same_outputs(
        model, AutoDecoForCausalLM.from_pretrained(tmp_path / "adapted", dtype="bfloat16"), atol=0, rtol=0
    )


def test_peft_itself_reads_the_adapter(folder, model, base_folder):
    base = AutoModelForCausalLM.from_pretrained(base_folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT warns of keys that it misses
        adapted = PeftModel.from_pretrained(base, folder)
    with torch.no_grad():
        torch.testing.assert_close(adapted(INPUT_IDS).logits, outputs(model)[0], rtol=0, atol=0)


def test_switched_off_the_base_is_itself_and_comes_back(model, base_folder):
    adapter_parameters(model)[0].requires_grad_(True)
    before = outputs(model)[0]
    with adapter_disabled(model):
        with adapter_disabled(model):
            pass
        torch.testing.assert_close(
            outputs(model)[0], outputs(AutoDecoForCausalLM.from_base(str(base_folder)))[0], rtol=0, atol=0
        )
    assert outputs(model)[0].equal(before)
    assert [parameter.requires_grad for parameter in adapter_parameters(model)][:2] == [True, False]


def test_merging_folds_the_adapter_into_the_weights(folder, model, base_folder, tmp_path):
    assert merge(None, folder, tmp_path / "merged") == 0  # nothing of the base is linked
    merged = AutoDecoForCausalLM.from_pretrained(tmp_path / "merged")
    assert_same_outputs(model, merged, rtol=1e-4, atol=1e-4)
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert not names & ADAPTER_FILES
    assert "tokenizer.json" in names
    # Any program that loads the folder as a plain model has the adapter in it; the base's own file is as it was.
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(INPUT_IDS).logits
        base = load_base(base_folder)(INPUT_IDS).logits
    torch.testing.assert_close(plain, outputs(merged)[0])
    assert (plain - base).abs().max() > 0.1
    assert not list(tmp_path.glob(".merged*"))  # no scratch is left


def test_the_folded_weights_are_w_plus_scaled_b_a(folder, base_folder, tmp_path):
    merge(None, folder, tmp_path / "merged")
    name = "model.layers.1.mlp.down_proj"
    adapter = load_file(folder / "adapter_model.safetensors")
    a, b = (adapter[f"base_model.model.{name}.lora_{which}.weight"] for which in "AB")
    before = load_file(base_folder / "model.safetensors")[f"{name}.weight"]
    after = load_file(tmp_path / "merged" / "model.safetensors")[f"{name}.weight"]
    torch.testing.assert_close(after, before + 8 / 4 * b @ a)


def test_in_float32_nothing_is_rounded_to_the_bases_bfloat16(base_folder, tmp_path):
    plain = tmp_path / "bfloat16"
    load_base(base_folder, dtype="bfloat16").save_pretrained(plain)
    model = adapted_model(plain)
    model.save_pretrained(tmp_path / "adapted")
    for dtype in ("auto", "float32"):
        merge(None, tmp_path / "adapted", tmp_path / dtype, dtype=dtype)
    name = "model.layers.1.mlp.down_proj"
    adapter = load_file(tmp_path / "adapted" / "adapter_model.safetensors")
    a, b = (adapter[f"base_model.model.{name}.lora_{which}.weight"] for which in "AB")
    sums = load_file(plain / "model.safetensors")[f"{name}.weight"].float() + 8 / 4 * b @ a
    rounded, whole = (load_file(tmp_path / dtype / "model.safetensors") for dtype in ("auto", "float32"))
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32}
    torch.testing.assert_close(whole[f"{name}.weight"], sums)
    assert rounded[f"{name}.weight"].dtype == torch.bfloat16
    assert (rounded[f"{name}.weight"].float() - sums).abs().max() > 1e-4
    merged = AutoDecoForCausalLM.from_pretrained(tmp_path / "float32")  # as its config.json says
    assert merged.dtype == torch.float32
    apart = AutoDecoForCausalLM.from_pretrained(tmp_path / "adapted", dtype="float32")
    assert_same_outputs(apart, merged, rtol=1e-4, atol=1e-4)
    served = with_adapter_folded(served_model(str(tmp_path / "adapted"), scratch=tmp_path), tmp_path, "float32")
    assert load_file(f"{served.path}/model.safetensors")[f"{name}.weight"].equal(whole[f"{name}.weight"])


def test_a_precision_is_for_weights_that_are_written_anew(folder, base_folder, tmp_path):
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    with pytest.raises(ConfigError, match=r"dtype float32 is for weights that a LoRA adapter is added to, and .*heads"):
        merge(None, tmp_path / "heads", tmp_path / "merged", dtype="float32")
    with pytest.raises(ConfigError, match=r"dtype: found 'floatt32'\. Did you mean 'float32'"):
        merge(None, folder, tmp_path / "merged", dtype="floatt32")
    assert not (tmp_path / "merged").exists()


def test_heads_that_vllm_cannot_serve_are_refused_before_the_base_is_loaded(model, tmp_path, monkeypatch):
    model.decoding_heads = model.decoding_heads.with_prompt_summary()
    model.save_pretrained(tmp_path / "adapted")
    monkeypatch.setattr(folding, "load_weights", lambda *_, **__: pytest.fail("the base was loaded"))
    with pytest.raises(CheckpointError, match="these heads see a summary of the prompt"):
        merge(None, tmp_path / "adapted", tmp_path / "merged")
    assert not list(tmp_path.glob("*merged*"))


def test_heads_that_are_split_off_again_know_no_base(folder, tmp_path):
    merge(None, folder, tmp_path / "merged")
    split(tmp_path / "merged", tmp_path / "heads", tmp_path / "own-base")
    with pytest.raises(CheckpointError, match="does not record its base model"):
        AutoDecoForCausalLM.from_pretrained(tmp_path / "heads")
    again = AutoDecoForCausalLM.from_pretrained(tmp_path / "heads", base_model=tmp_path / "own-base")
    assert_same_outputs(AutoDecoForCausalLM.from_pretrained(tmp_path / "merged"), again, rtol=0, atol=0)


def test_an_engine_that_knows_no_adapter_gets_a_merged_folder(folder, model, tmp_path):
    served = served_model(str(folder), scratch=tmp_path)
    assert served.heads is not None
    folded = with_adapter_folded(served, tmp_path)
    assert (folded.path, folded.heads, folded.architecture) == (str(tmp_path / "merged"), None, None)
    assert folded.name == "adapted"
    assert_same_outputs(model, AutoDecoForCausalLM.from_pretrained(folded.path), rtol=1e-4, atol=1e-4)


def test_heads_without_an_adapter_are_served_as_they_were(base_folder, tmp_path):
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    served = served_model(str(tmp_path / "heads"), scratch=tmp_path)
    assert with_adapter_folded(served, tmp_path) is served


def test_inspect_shows_the_adapter(folder):
    found = inspect(folder)
    assert not found.problems
    adapter = found.adapter
    assert (adapter.rank, adapter.alpha) == (4, 8)
    assert set(adapter.targets) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    # Two layers; inputs and outputs of 32, of 16 for keys and values, of 64 within the MLP; rank 4.
    assert adapter.parameters == 2 * 4 * (2 * 64 + 2 * 48 + 3 * 96)
    assert found.to_dict()["adapter"]["nbytes"] == 4 * adapter.parameters


@pytest.mark.parametrize("name", sorted(ADAPTER_FILES))
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing: the checkpoint is incomplete"):
        AutoDecoForCausalLM.from_pretrained(folder)
    assert name in inspect(folder).problems[0]


def damage_cut_off(path):
    path.write_bytes(path.read_bytes()[:-10])


def damage_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(damage_cut_off, "is cut off"), (damage_bit, "not the adapter that these heads were trained")],
)
def test_a_damaged_adapter(folder, damage, message):
    damage(folder / "adapter_model.safetensors")
    for use in (AutoDecoForCausalLM.from_pretrained, lambda path: merge(None, path, path.parent / "merged")):
        with pytest.raises(CheckpointError, match=message):
            use(folder)
    assert not (folder.parent / "merged").exists()


def with_digest_of(folder):
    """Records the adapter that lies there as the right one, as a forger would."""
    from autodeco.files import sha256_of

    path = folder / "autodeco_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "adapter_sha256": sha256_of(folder / "adapter_model.safetensors")}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.popitem(), "tensors are missing"),
        (lambda tensors: tensors.update(extra=torch.ones(2)), r"1 tensors have no layer \(extra\)"),
        (lambda tensors: tensors.update({min(tensors): torch.ones(4, 99)}), "1 tensors are of another size"),
        (lambda tensors: tensors[min(tensors)].fill_(torch.nan), "1 tensors hold NaN or infinity"),
    ],
)
def test_tensors_that_are_not_those_of_the_layers(folder, change, message):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    with_digest_of(folder)
    with pytest.raises(CheckpointError, match=message):
        AutoDecoForCausalLM.from_pretrained(folder)


def test_an_adapter_of_another_base_is_refused(folder, tmp_path, base_folder):
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "base_model_name_or_path": "somebody/else"}))
    with pytest.raises(CheckpointError, match="is of an adapter for base model 'somebody/else'"):
        AutoDecoForCausalLM.from_pretrained(folder)
    path.write_text(json.dumps({**config, "peft_type": "IA3"}))
    with pytest.raises(CheckpointError, match="of type 'LORA' is needed, found 'IA3'"):
        AutoDecoForCausalLM.from_pretrained(folder)


def test_a_base_without_the_adapters_layers_is_refused(folder, tmp_path):
    from tests.conftest import byte_tokenizer, tiny_llama

    other = tiny_llama(vocab_size=len(byte_tokenizer()), intermediate_size=48)
    other.save_pretrained(tmp_path / "narrower")
    with pytest.raises(CheckpointError, match=r"does not fit base model '.*narrower': \d+ tensors are of another size"):
        AutoDecoForCausalLM.from_pretrained(folder, base_model=tmp_path / "narrower")
    tiny_llama(vocab_size=len(byte_tokenizer()), num_hidden_layers=1).save_pretrained(tmp_path / "shallower")
    with pytest.raises(CheckpointError, match="tensors have no layer"):
        merge(tmp_path / "shallower", folder, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_heads_are_not_used_without_their_adapter(folder, base_folder, tmp_path):
    with pytest.raises(CheckpointError, match="trained together with a LoRA adapter"):
        AutoDecoForCausalLM.from_base(str(base_folder), heads=load_heads(folder))
    with pytest.raises(CheckpointError, match="was not written: these heads were trained together with a LoRA adapter"):
        save_heads(load_heads(folder), tmp_path / "heads")
    assert not (tmp_path / "heads").exists()
    for layout in ("merged", "released-heads"):
        with pytest.raises(CheckpointError, match="'autodeco merge"):
            convert(folder, tmp_path / "converted", layout)


def test_without_peft(folder, base_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    for use in (
        lambda: AutoDecoForCausalLM.from_pretrained(folder),
        lambda: merge(None, folder, tmp_path / "merged"),
        lambda: add_adapter(load_base(base_folder), rank=4, alpha=8, targets="all-linear"),
    ):
        with pytest.raises(MissingDependencyError, match=r"pip install 'autodeco\[lora\]'"):
            use()
    assert inspect(folder).adapter is not None  # looking needs nothing
    plain = tmp_path / "plain"
    shutil.copytree(base_folder, plain)
    AutoDecoForCausalLM.from_base(str(plain)).save_pretrained(tmp_path / "heads")
    AutoDecoForCausalLM.from_pretrained(tmp_path / "heads")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["query"], r"Linear layers of this model: .*k_proj, lm_head"),
        (["lm_head", "q_proj"], "lm_head and the embedding cannot be adapted"),
        (["embed_tokens"], "lm_head and the embedding cannot be adapted"),
    ],
)
def test_layers_that_cannot_be_adapted(base_folder, targets, message):
    with pytest.raises(ConfigError, match=message):
        add_adapter(load_base(base_folder), rank=4, alpha=8, targets=targets)


def test_adapters_that_could_not_be_loaded_again_are_not_written(model, tmp_path):
    with torch.no_grad():
        adapter_parameters(model)[0].fill_(torch.inf)
    with pytest.raises(CheckpointError, match="the adapter was not written"):
        model.save_pretrained(tmp_path / "adapted")
    assert not (tmp_path / "adapted").exists()
