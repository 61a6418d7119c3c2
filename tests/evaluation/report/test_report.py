"""The report: its figures are those of the results, and text from results never becomes markup."""

import base64
import re
import sys
from html.parser import HTMLParser

import pytest
import torch

from autodeco import AutoDecoConfig
from autodeco.cli import main
from autodeco.errors import DataError, MissingDependencyError
from autodeco.evaluation.diagnosis import Chunk, diagnose
from autodeco.evaluation.report import build, markdown, write_report
from autodeco.evaluation.report.document import Document, Figure, Section, Table
from autodeco.evaluation.report.published import published_for, source
from autodeco.evaluation.results import ResultsWriter, read_results
from autodeco.heads import DecodingHeads

from ..rows import frame, row, simulated

SWEEP = {"static:temperature=0.4": 0.6, "static:temperature=0.7": 0.55, "static:temperature=0.7,top_p=0.9": 0.58}
STRATEGIES = SWEEP | {
    "default": 0.4,
    "autodeco": 0.6,
    "mean-shift:temperature=0.6,top_p=0.9": 0.58,
    "shuffled:file=x": 0.5,
    "temperature-head": 0.55,
    "top-p-head": 0.5,
    "p-less": 0.5,
}
SETTINGS = "Static settings, Pass@1"
EVIL = "<script>alert(1)</script> | [x](javascript:alert(1)) `code` **bold** \n# heading"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.sources = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    rows = simulated(STRATEGIES, problems=10, samples=16, tasks=("sums", "ifeval"))
    rows += [
        row(strategy="greedy", task=task, problem=f"p{n}", correct=n < 4)
        for task in ("sums", "ifeval")
        for n in range(10)
    ]
    rows += [row(strategy="default", problem="p0", sample=99, correct=None, error=EVIL, text=EVIL)]
    ResultsWriter(folder).append([own | {"model": f"runs/{EVIL}"} for own in rows])
    heads = DecodingHeads(AutoDecoConfig(hidden_size=4, vocab_size=9)).requires_grad_(False)
    chunk = Chunk(torch.randn(100, 4), torch.randint(0, 9, (100,)), torch.arange(100) // 10)
    diagnose([chunk], heads, torch.randn(9, 4), data=EVIL, resamples=50).write(folder / "diagnosis.json")
    (folder / "provenance.json").write_text('{"command": "autodeco eval <b>"}')
    write_report([folder], folder / "report", resamples=200)
    return folder


def parts(document, kind):
    return {part.title: part for section in document.sections for part in section.parts if isinstance(part, kind)}


def test_tables_hold_what_was_measured(run):
    found = build(read_results(run), resamples=200)
    tables = parts(found, Table)
    assert [section.title for section in found.sections][:4] == [
        "Data",
        "Pass@1",
        "Paired differences",
        "Frontier: accuracy at equal diversity",
    ]
    table = tables["Table 2: other tasks, Pass@1"]
    assert table.columns == ["strategy", "ifeval", "sums", "average"]
    by_strategy = {cells[0]: cells[1:] for cells in table.rows}
    assert by_strategy["greedy"][1].startswith("40.0 (")
    assert by_strategy["greedy"][1].endswith(", n = 10 x 1")
    assert by_strategy["autodeco"][2].endswith("n = 20 x 16")
    own = read_results(run)
    own = own[own["correct"].notna() & (own["strategy"] == "autodeco") & (own["task"] == "sums")]
    assert by_strategy["autodeco"][1].startswith(f"{100 * own['correct'].astype(bool).mean():.1f} (")
    assert list(by_strategy)[:2] == ["greedy", "default"]
    assert list(by_strategy)[-2:] == ["autodeco", "best static, chosen on these problems"]
    assert "Table 5: Pass@16" in tables
    assert "Table 6: Pass@32" not in tables  # no strategy has 32 samples
    differences = tables["autodeco less others, all tasks"]
    assert [cells[2] for cells in differences.rows][:2] == ["mean-shift:temperature=0.6,top_p=0.9", "shuffled:file=x"]
    assert all(len(cells) == len(made.columns) for made in tables.values() for cells in made.rows)
    assert tables["Samples not judged"].rows[0][2] == "1 of 161"
    assert {figure.name for figure in found.figures} == {
        "frontier-entropy",
        "frontier-distinct-2",
        "frontier-1-self-bleu",
        "frontier-pass-16",
        "sweep-temperature",
        "sweep-top-p",
        "ablation",
        "pass-at-k",
    }


def test_page_is_self_contained_and_text_stays_text(run):
    page = (run / "report" / "report.html").read_text()
    parser = Tags()
    parser.feed(page)
    assert parser.tags.isdisjoint({"script", "b", "a", "svg", "iframe", "link"})
    assert parser.sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in parser.sources)
    pictures = [base64.b64decode(source.split(",")[1]).decode() for source in parser.sources]
    assert all(picture.startswith("<svg") and "<script" not in picture for picture in pictures)
    text = " ".join(parser.text)
    assert "<script>alert(1)</script>" in text  # shown, as text
    assert "no heads can reach it" in text
    assert '"command": "autodeco eval <b>"' in text


def test_markdown_text_stays_text(run):
    text = (run / "report" / "report.md").read_text()
    assert "<script" not in text
    assert "\n# heading" not in text
    assert not re.search(r"(?<!\\)\[x", text)
    pictures = re.findall(r"!\[[^\]]*\]\((figures/[^)]+)\)", text)
    assert len(pictures) == 8
    assert all((run / "report" / picture).read_text().startswith("<svg") for picture in pictures)
    rows = [line for line in text.splitlines() if line.startswith("| sums | default |")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in rows)


def test_markdown_escapes_every_character_of_its_own():
    cell = "a|b *c* _d_ `e` <f> &amp; \\ ~g~ $h$ #i [j](k)"
    text = markdown.render(Document("t", [Section("s", [Table("x", ["one"], [[cell]])])]), "figures")
    assert r"| a\|b \*c\* \_d\_ \`e\` &lt;f&gt; &amp;amp; \\ \~g\~ \$h\$ \#i \[j\](k) |" in text


def test_published_figures_stand_beside_the_same_model_and_tasks():
    assert published_for("HuggingFaceTB/SmolLM2-135M-Instruct") == []
    figures = published_for("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B")
    assert len(figures) == 8 * 3 + 3 * 4 * 2
    assert next(f.value for f in figures if (f.column, f.strategy) == ("IFEval", "autodeco")) == pytest.approx(0.339)
    rows = simulated({"default": 0.5, "autodeco": 0.6}, problems=5, samples=2, tasks=("aime24", "aime25", "ifeval"))
    named = [own | {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"} for own in rows]
    table = parts(build(frame(named), resamples=100), Table)["Published figures beside ours"]
    assert [cells[:4] for cells in table.rows] == [
        ["AIME", "default", "Pass@1", "43.49"],
        ["AIME", "autodeco", "Pass@1", "47.03"],
        ["IFEval", "default", "Pass@1", "32.35"],
        ["IFEval", "autodeco", "Pass@1", "33.90"],
    ]
    assert table.rows[0][4].endswith("n = 10 x 2")
    assert source() in table.note


# (default, AutoDeco) averages over the four mathematics tasks, as the paper prints them.
AVERAGES = {
    "pass@1": [(42.59, 46.05), (34.76, 37.37), (56.05, 56.54), (56.64, 58.13)],
    "pass@16": [(81.21, 83.21), (62.24, 66.23), (77.30, 77.78), (83.91, 85.45)],
    "pass@32": [(84.47, 86.44), (66.86, 70.79), (80.27, 80.20), (87.08, 89.23)],
    "pass@64": [(87.35, 89.75), (70.92, 74.78), (82.94, 83.61), (89.68, 91.55)],
}
MODELS = ("Llama-3.1-Nemotron-Nano-8B", "R1-Distill-Qwen-7B", "Qwen3-30B-A3B-Instruct-2507", "openai/gpt-oss-20b")


@pytest.mark.parametrize("metric", AVERAGES)
def test_published_figures_have_the_averages_that_the_paper_prints(metric):
    for model, averages in zip(MODELS, AVERAGES[metric], strict=True):
        for strategy, average in zip(("default", "autodeco"), averages, strict=True):
            own = [f.value for f in published_for(model) if (f.metric, f.strategy) == (metric, strategy)][:4]
            assert 100 * sum(own) / 4 == pytest.approx(average, abs=0.0065)


def test_pass_at_k_stands_beside_what_was_published():
    rows = simulated({"default": 0.3, "autodeco": 0.4}, problems=4, samples=16, tasks=("brumo25",))
    found = build(frame([own | {"model": "gpt-oss-20b"} for own in rows]), resamples=100)
    (section,) = [section for section in found.sections if section.title == "Pass@k"]
    table = next(part for part in section.parts if part.title == "Published figures beside ours")
    assert [cells[:4] for cells in table.rows] == [
        ["BRUMO25", "default", "Pass@16", "92.27"],
        ["BRUMO25", "autodeco", "Pass@16", "92.82"],
    ]


def test_other_models_figures_on_the_same_task():
    tables = parts(build(frame(simulated(STRATEGIES, problems=5, samples=2, tasks=("ifeval",))), resamples=100), Table)
    assert "Published figures beside ours" not in tables
    rows = tables["Published figures of other models on the same tasks"].rows
    assert rows[0][:3] == ["IFEval", "tiny, here", ""]  # greedy was not run
    assert rows[0][4].endswith("n = 5 x 2")
    assert rows[1] == ["IFEval", "Llama-3.1-Nemotron-Nano-8B", "71.53", "65.25", "71.02", "+5.77"]
    assert [cells[1] for cells in rows[2:]] == ["R1-Distill-Qwen-7B", "Qwen3-30B-A3B-Instruct-2507", "GPT-OSS-20B"]


def test_a_sweep_is_drawn_for_each_task_that_has_one():
    # The oracle's top-ps are at each task's own best temperature, so the tasks have no such setting in common.
    plain = {"static:temperature=0.4": 0.5, "static:temperature=0.7": 0.6}
    first = simulated(plain | {"static:temperature=0.4,top_p=0.9": 0.6}, problems=4, samples=2, tasks=("one",))
    second = simulated(plain | {"static:temperature=0.7,top_p=0.8": 0.6}, problems=4, samples=2, tasks=("two",))
    found = build(frame(first + second), resamples=100)
    figures = parts(found, Figure)
    assert [f"static, T = {t}" in figures["Figure 3: top-p"].svg for t in ("0.4", "0.7")] == [True, True]
    assert all(f">{name}</text>" in figures["Figure 3: temperature"].svg for name in ("one", "two", "average"))
    assert ">average</text>" not in figures["Figure 3: top-p"].svg
    rows = {tuple(cells[:2]): [bool(cell) for cell in cells[2:]] for cells in parts(found, Table)[SETTINGS].rows}
    assert rows[("0.4", "1")] == [True, True, True]
    assert rows[("0.4", "0.9")] == [True, False, False]


def test_a_task_with_mostly_one_answer_is_named():
    rows = [row(problem=f"p{at}", task=task, answer="1") for task in ("letters", "sums") for at in range(30)]
    for at, one in enumerate(rows[30:]):
        one["answer"] = "1" if at < 18 else str(at)  # 60 %: not more than that
    # Wrong answers say nothing of what the right ones are.
    rows += [row(problem=f"p{at}", sample=1, answer="1", correct=False) for at in range(30)]
    rows += [row(problem=f"q{at}", task="letters", answer=str(at), correct=False) for at in range(30)]
    _, *notes = build(frame(rows), resamples=100).sections[0].parts
    assert [note.split(".")[0] for note in notes] == [
        "letters: of the 30 problems that any strategy solved, 100% have the answer «1»"
    ]
    few = build(frame(rows[:19]), resamples=100).sections[0].parts
    assert len(few) == 1


def test_one_strategy_on_one_problem_still_gives_a_report(tmp_path):
    ResultsWriter(tmp_path).append([row()])
    page = write_report([tmp_path], tmp_path / "report", resamples=100).read_text()
    assert "100.0, n = 1 x 1" in page


def test_command(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_request:
        main(["report", str(run), "--output", str(tmp_path), "--resamples", "100"])
    assert exit_request.value.code == 0
    assert (tmp_path / "report.md").exists()
    assert str(tmp_path / "report.html") in capsys.readouterr().out.replace("\n", "")
    with pytest.raises(SystemExit) as exit_request:
        main(["report", str(tmp_path)])
    assert exit_request.value.code == 2
    assert "no results here" in capsys.readouterr().err


def test_what_stops_a_report(tmp_path, monkeypatch):
    ResultsWriter(tmp_path).append([row(), row(model="other")])
    with pytest.raises(DataError, match="2 models"):
        write_report([tmp_path], tmp_path / "report")
    assert write_report([tmp_path], tmp_path / "report", model="other", resamples=100).exists()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MissingDependencyError, match=r"vl_convert.*autodeco\[report\]"):
        write_report([tmp_path], tmp_path / "report", model="other")
