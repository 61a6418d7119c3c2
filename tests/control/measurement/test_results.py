import pytest

from autodeco.control.measurement import analyse, document
from autodeco.control.measurement.tables import table_4
from autodeco.errors import DataError
from tests.control.measurement.rows import row

PLAIN = [row("none", "a", 0.7), row("none", "b", 0.9), row("none", "c", 0.8)]


def test_means_shifts_and_consistency_by_hand():
    low = [row("low", "a", 0.5, 0.7), row("low", "b", 0.8, 0.7), row("low", "c", 0.9, 0.9)]
    found = analyse([*PLAIN, *low])
    own = found.of("low")
    assert found.of("none").mean["temperature"].value == pytest.approx(0.8)
    assert own.mean["temperature"].value == pytest.approx(2.2 / 3)
    assert own.shift["temperature"].value == pytest.approx((-0.2 - 0.1 + 0.1) / 3)
    assert own.shift["top_p"].value == pytest.approx((-0.1 - 0.1 + 0.1) / 3)
    assert own.consistent["temperature"].value == pytest.approx(2 / 3)
    # Wilson's interval for 2 of 3.
    assert (own.consistent["top_p"].low, own.consistent["top_p"].high) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert own.shift["temperature"].low < own.shift["temperature"].value < own.shift["temperature"].high
    assert found.of("none").shift == {}


def test_a_prompt_counts_once_however_many_samples_it_has():
    high = [row("high", "a", 0.9), row("high", "a", 0.7, sample=1), row("high", "b", 1.0), row("high", "c", 0.9)]
    found = analyse([*PLAIN, *high]).of("high")
    assert found.prompts == 3
    assert found.mean["temperature"].value == pytest.approx((0.8 + 1.0 + 0.9) / 3)
    assert found.consistent["temperature"].value == 1


def test_a_command_that_changes_numbers_but_not_the_text_is_seen_to():
    high = [row("high", name, 0.9, text="one two one two", mean_entropy=1.5) for name in "abc"]
    found = analyse([*PLAIN, *high]).of("high")
    assert found.shift["entropy"].value == pytest.approx(0.5)
    assert found.shift["distinct_2"].value == pytest.approx(2 / 3 - 1)


def test_absolute_errors_and_what_no_control_would_have():
    absolute = [
        row("absolute", "a", 0.4, subkind="temperature") | {"temperature": 0.3},
        row("absolute", "b", 0.2, subkind="no-randomness") | {"temperature": 0.0},
        row("absolute", "c", 0.8, 0.85, subkind="top-p") | {"top_p": 0.9},
    ]
    found = {(one.head, one.subkind): one for one in analyse([*PLAIN, *absolute]).absolute}
    assert set(found) == {
        ("temperature", "all"), ("temperature", "temperature"), ("temperature", "no-randomness"),
        ("top_p", "all"), ("top_p", "top-p"),
    }  # fmt: skip
    assert found["temperature", "all"].error.value == pytest.approx((0.1 + 0.2) / 2)
    assert found["temperature", "all"].error_uncommanded.value == pytest.approx((0.4 + 0.9) / 2)
    assert found["temperature", "no-randomness"].mean.value == pytest.approx(0.2)
    assert found["top_p", "top-p"].error.value == pytest.approx(0.05)


def test_scoped_commands_are_judged_by_the_parts_of_the_text():
    plain = [row("none", name, 0.7, temperature_of_parts=[0.7, 0.6]) for name in "ab"]
    scoped = [
        row("scoped", "a", 0.7, scope=[1, -1], temperature_of_parts=[0.9, 0.5], top_p_of_parts=None),
        row("scoped", "b", 0.7, scope=[-1, 1], temperature_of_parts=[0.6, 0.6], top_p_of_parts=None),
    ]
    found = analyse([*plain, *scoped])
    # a falls by 0.3 more than without a command, b rises by 0.1 more; both as asked.
    assert found.scoped["temperature"].value == pytest.approx((0.3 + 0.1) / 2)
    assert found.scoped_consistent["temperature"].value == 1
    assert "top_p" not in found.scoped  # the texts were too short to divide


def test_consistency_by_position_and_sub_kind():
    low = [
        row("low", "a", 0.5, position="system", subkind="idiom"),
        row("low", "b", 1.0, position="system", subkind="focus"),
        row("low", "c", 0.5, position="after", subkind="idiom"),
    ]
    groups = analyse([*PLAIN, *low]).groups
    assert {name: share.value for name, share in groups["low by position"].items()} == {"after": 1, "system": 0.5}
    assert groups["low by subkind"]["idiom"].problems == 2


def test_shifts_on_the_same_completion_by_hand():
    plain = [row("none", "a", 0.7), row("none", "b", 0.9)]
    alike = [row("look-alike", "a", 0.73, 0.8), row("look-alike", "b", 0.87, 0.9)]
    for one in (*plain, *alike):
        del one["text"]  # such rows have none
    found = analyse(PLAIN, [*plain, *alike])
    assert [one.condition for one in found.conditions] == ["none"]
    _, own = found.same_completion
    assert own.prompts == 2
    # One up by 0.03, one down by as much: no shift on average, and yet each prompt moved.
    assert own.shift["temperature"].value == pytest.approx(0)
    assert own.distance["temperature"].value == pytest.approx(0.03)
    assert own.shift["top_p"].value == own.distance["top_p"].value == pytest.approx(0.05)
    assert own.consistent["temperature"].value == 0.5
    assert set(own.mean) == {"temperature", "top_p", "entropy"}
    (table,) = [part for part in document(found, "m").sections[0].parts if part.title.startswith("On the same")]
    assert [cell.split(" ")[0] for cell in table.rows[1]] == [
        "look-alike", "0.800", "0.000", "0.030", "50.0", "0.850", "0.050", "0.050", "50.0"
    ]  # fmt: skip


def test_nothing_to_compare_with():
    with pytest.raises(DataError, match="no texts without a command"):
        analyse([row("low", "a", 0.5)])


def test_tables_hold_the_figures():
    rows = [*PLAIN, *(row("low", n, 0.5) for n in "abc"), *(row("high", n, 1.0) for n in "abc")]
    results = analyse(rows)
    cells = table_4(results).rows
    assert [line[0] for line in cells] == ["none", "low", "high"]
    assert cells[1][2].startswith("-0.300 (")
    assert cells[2][3].startswith("100.0 (")
    titles = [part.title for part in document(results, "m").sections[0].parts]
    assert titles[0].startswith("Mean temperature")
    assert "Absolute commands" not in titles
    results.record()
