"""Reading benchmarks from local files, their prompts and their scoring."""

from __future__ import annotations

import csv
import gzip
import json

import pytest

from autodeco.errors import DataError
from autodeco.tasks import get_task
from autodeco.tasks.benchmarks import rows
from autodeco.tasks.benchmarks.code import code_blocks
from autodeco.tasks.benchmarks.gsm8k import GSM8K
from autodeco.tasks.benchmarks.rows import Source, read_rows

MATH_SIZES = {"aime24": 30, "aime25": 30, "brumo25": 30, "hmmt25": 30, "beyondaime": 100}


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", MATH_SIZES)
def test_competition_mathematics(name, benchmark_data):
    task = get_task(name, data=benchmark_data)
    examples = task.examples("test", None, 0)
    assert len(examples) == MATH_SIZES[name]
    for example in examples:
        assert example.messages[0]["content"].endswith("\nMake sure you output the final answer within \\boxed{}.")
        verdict = task.judge(example, f"Thus the answer is $\\boxed{{{example.answer}}}$.")
        assert (verdict.correct, verdict.error) == (True, None)
        assert verdict.answer
        assert not task.verify(example, "I do not know, perhaps \\boxed{-123456}.")


def test_mmlu_pro_lite(benchmark_data):
    task = get_task("mmlu-pro-lite", data=benchmark_data)
    examples = task.examples("test", None, 0)
    assert len(examples) == 100
    assert (
        "\nOptions:\nA. Not enough information, Not enough information\nB. False, False\n"
        in (examples[0].messages[0]["content"])
    )
    for example in examples:
        assert task.judge(example, f"Therefore, the answer is ({example.answer}).").correct
        assert not task.judge(example, "the answer is (K)").correct
    assert task.judge(examples[0], "the answer is (J)").answer == "J"


def test_counts_seeds_and_splits(tmp_path):
    path = _write(tmp_path / "aime24.jsonl", [{"problem": f"{n}?", "gt": n} for n in range(20)])
    task = get_task("aime24", data=tmp_path)
    every = task.examples("test", None, 0)
    assert [example.answer for example in every] == [str(n) for n in range(20)]
    some = task.examples("test", 5, 1)
    assert some == task.examples("test", 5, 1)
    assert some != task.examples("test", 5, 2)
    assert all(example in every for example in some)
    assert len({example.id for example in every}) == 20
    assert get_task("aime24", data=path).fingerprint() == task.fingerprint()
    for split, count, message in (
        ("train", None, "test split only.*gsm8k"),
        ("tset", None, "Did you mean 'test'"),
        ("test", 21, "21 test problems were asked for, and there are 20"),
        ("test", 0, "at least 1"),
    ):
        with pytest.raises(DataError, match=message):
            task.examples(split, count, 0)


def test_gpqa_options_are_shuffled_the_same_way_every_time(tmp_path):
    fields = ["Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]
    path = tmp_path / "gpqa_diamond.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([fields, *[[f"Question {n}?", "right", "w1", "w2", "w3"] for n in range(40)]])
    task = get_task("gpqa-diamond", data=tmp_path)
    examples = task.examples("test", None, 0)
    assert examples == get_task("gpqa-diamond", data=path).examples("test", None, 5)
    assert {example.answer for example in examples} == set("ABCD")
    for example in examples:
        assert f"{example.answer}) right" in example.messages[0]["content"]
        assert task.verify(example, f"Because of this,\n\nAnswer: {example.answer}")


def test_gsm8k(tmp_path):
    train = [{"question": f"What is {n} thousand?", "answer": f"Think.\n#### {n},000"} for n in range(1, 60)]
    _write(tmp_path / "train.jsonl", train)
    _write(tmp_path / "test.jsonl", [{"question": "2 + 2?", "answer": "#### 4"}])
    task = get_task("gsm8k", data=tmp_path)
    splits = {split: task.examples(split, None, 0) for split in ("train", "validation", "test")}
    assert len(splits["train"]) + len(splits["validation"]) == 59
    assert len(splits["validation"]) >= 5
    assert {e.id for e in splits["train"]}.isdisjoint(e.id for e in splits["validation"])
    example = splits["train"][0]
    assert task.verify(example, f"It is ${example.answer[:-3]},000.")
    assert task.judge(example, "It is 5.00").answer == "5"
    _write(tmp_path / "test.jsonl", [{"question": "2 + 2?", "answer": "4"}])
    with pytest.raises(DataError, match="must end in '#### NUMBER'"):
        GSM8K(tmp_path).examples("test", 1, 0)
    with pytest.raises(DataError, match=r"train\.jsonl and test\.jsonl"):
        GSM8K(tmp_path / "test.jsonl").examples("test", 1, 0)


@pytest.mark.parametrize("form", ["jsonl", "json", "jsonl.gz", "parquet", "shards"])
def test_forms_of_local_files(tmp_path, form):
    given = [{"a": 1}, {"a": 2}]
    text = "".join(json.dumps(row) + "\n" for row in given)
    if form == "jsonl":
        (tmp_path / "x.jsonl").write_text(text)
    elif form == "json":
        (tmp_path / "x.json").write_text(json.dumps(given))
    elif form == "jsonl.gz":
        (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        (tmp_path / "data").mkdir()
        names = (
            ["x.parquet"]
            if form == "parquet"
            else ["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"]
        )
        for name, part in zip(names, [given] if form == "parquet" else [given[:1], given[1:]], strict=True):
            parquet.write_table(pyarrow.Table.from_pylist(part), tmp_path / name)
    assert read_rows("t", Source("owner/x", files=("x",)), tmp_path) == given


def test_absent_data_say_how_to_get_them(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(DataError, match=r"ConnectionError: no network.*hf download --repo-type dataset openai/gsm8k"):
        get_task("gsm8k").examples("test", 1, 0)
    with pytest.raises(DataError, match=r"Accept its terms.*--data"):
        get_task("gpqa-diamond").examples("test", 1, 0)
    with pytest.raises(DataError, match=r"MMLU-Pro-100\.json.*--data"):
        get_task("mmlu-pro-lite").examples("test", 1, 0)
    with pytest.raises(DataError, match=r"holds none of .*aime24\.jsonl"):
        get_task("aime24", data=tmp_path).examples("test", 1, 0)
    with pytest.raises(DataError, match="neither a file nor a folder"):
        get_task("aime24", data=tmp_path / "nowhere").examples("test", 1, 0)


def test_the_hub_is_asked_for_the_right_thing(monkeypatch):
    asked = []

    def load(*args, **kwargs):
        asked.append((*args, kwargs["split"]))
        return [{"question": "1 + 1?", "answer": "#### 2"}]

    monkeypatch.setattr("datasets.load_dataset", load)
    get_task("gsm8k").examples("test", 1, 0)
    assert asked == [("openai/gsm8k", "main", "test")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("aime24.jsonl", '{"problem": "x"}\n', "problem 1: a field 'gt' is needed, found problem"),
        ("aime24.jsonl", "{", "line 1: not JSON"),
        ("aime24.jsonl", "", "no problems"),
        ("aime24.json", '{"a": 1}', "a JSON list of objects is needed"),
        ("aime24.json", "{", "cannot be read"),
        ("aime24.parquet", "x", "cannot be read"),
        ("aime24.jsonl.gz", "x", "cannot be read"),
        ("aime24.txt", "x", "a file that ends in"),
        ("aime24.jsonl", '{"problem": "x", "gt": 1}\n' * 2, "two problems have the same id"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        get_task("aime24", data=path).examples("test", None, 0)


@pytest.mark.parametrize(
    ("completion", "blocks"),
    [
        ("```python\na\n```", ["a\n"]),
        ("x\n```py\na\n```\ny\n```\nb\n```", ["a\n", "b\n"]),
        ("```python\na\nb", ["a\nb"]),
        ("```bash\nls\n```\n```Python\na\n```", ["a\n"]),
        ("no code", []),
        ("use `x` here", []),
    ],
)
def test_code_blocks(completion, blocks):
    assert code_blocks(completion) == blocks


def test_sources_name_hub_data_sets():
    from autodeco.tasks import registry

    for name in registry._BENCHMARKS:
        source = get_task(name).source
        assert source.hub_id is None or source.hub_id.count("/") == 1
    assert rows.Source(None).split == "test"
