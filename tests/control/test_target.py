from autodeco.control import Target, combined

LOW, HIGH = Target(-1), Target(1)


def test_the_later_of_two_contradicting_commands_wins():
    assert combined([LOW, HIGH]) == HIGH
    assert combined([HIGH, LOW]) == LOW
    assert combined([Target(0, temperature=0.3), Target(0, temperature=1.2)]) == Target(0, temperature=1.2)
    assert combined([Target(0, temperature=0.3, top_p=0.5), HIGH]) == HIGH


def test_values_of_different_heads_do_not_contradict_each_other():
    assert combined([Target(0, temperature=0.3), Target(0, top_p=0.9)]) == Target(0, 0.3, 0.9)
    assert combined([HIGH, Target(0, temperature=0.3)]) == Target(1, temperature=0.3)


def test_what_is_no_command_changes_nothing():
    assert combined([LOW, Target()]) == LOW
    assert combined([]).is_neutral
