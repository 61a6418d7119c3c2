from autodeco.control.patterns import expansions, is_pattern, near


def test_all_that_a_pattern_stands_for():
    assert expansions("[Keep|Hold] it [plain|simple|].") == [
        "Keep it plain.",
        "Hold it plain.",
        "Keep it simple.",
        "Hold it simple.",
        "Keep it .",
        "Hold it .",
    ]
    assert expansions("[a|a] b") == ["a b"]


def test_a_text_without_alternatives_stands_for_itself():
    assert not is_pattern("[low-variance output]")
    assert expansions("[low-variance output]") == ["[low-variance output]"]
    assert is_pattern("Be [calm|].")


def test_of_many_some_are_drawn_and_always_the_same():
    pattern = "[a|b|c|d] [e|f|g|h] [i|j|k|l] [m|n]"
    drawn = expansions(pattern, most=20)
    assert drawn == expansions(pattern, most=20)
    assert len(set(drawn)) == 20
    assert set(drawn) < set(expansions(pattern, most=200))
    assert {text.split()[0] for text in drawn} == {"a", "b", "c", "d"}


def test_near_is_what_shares_more_than_seven_tenths_of_the_words_of_either():
    kept = ["Nothing else.", "Keep the wording as plain as you can."]  # seven different words
    texts = {
        "Plain, please: keep the wording as you like!": True,  # keep, the, wording, as, plain, you: 6 of 7
        "KEEP it AS plain as you can": True,  # 5 of its 6
        "Be as plain as a wall can be, you see.": False,  # 4 of 7
        "Wholly other words": False,
        "...": False,
    }
    assert near(list(texts), kept) == list(texts.values())
    assert near(["anything"], []) == [False]
    assert near([], kept) == []
