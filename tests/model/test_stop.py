from locktender.model.stop import StopStrings


def test_text_without_a_stop_string_passes_at_once() -> None:
    filter_ = StopStrings(["END"])
    assert filter_.feed("one ") == "one "
    assert filter_.feed("two") == "two"
    assert not filter_.is_found
    assert filter_.flush() == ""


def test_a_stop_string_and_all_after_it_is_dropped() -> None:
    filter_ = StopStrings(["END"])
    assert filter_.feed("one END two") == "one "
    assert filter_.is_found
    assert filter_.feed("three") == ""
    assert filter_.flush() == ""


def test_a_stop_string_is_found_across_pieces() -> None:
    filter_ = StopStrings(["END"])
    assert [filter_.feed(piece) for piece in ("one E", "N", "D two")] == ["one ", "", ""]
    assert filter_.is_found


def test_a_start_that_comes_to_nothing_is_given_out_when_that_is_known() -> None:
    filter_ = StopStrings(["END"])
    assert [filter_.feed(piece) for piece in ("one E", "N", "ergy")] == ["one ", "", "ENergy"]


def test_a_start_at_the_end_of_the_text_is_given_out_by_flush() -> None:
    filter_ = StopStrings(["END"])
    assert filter_.feed("one EN") == "one "
    assert filter_.flush() == "EN"
    assert not filter_.is_found


def test_a_start_within_a_failed_start_is_still_seen() -> None:
    filter_ = StopStrings(["aab"])
    assert [filter_.feed(piece) for piece in "xaaab"] == ["x", "", "", "a", ""]
    assert filter_.is_found


def test_the_stop_string_that_is_complete_first_ends_the_text() -> None:
    filter_ = StopStrings(["abcd", "bc"])
    assert filter_.feed("abcd") == "a"


def test_of_stop_strings_that_end_together_the_longest_counts() -> None:
    filter_ = StopStrings(["bc", "abc"])
    assert filter_.feed("xabc") == "x"


def test_without_stop_strings_nothing_is_held_back() -> None:
    filter_ = StopStrings([])
    assert filter_.feed("anything") == "anything"
    assert filter_.flush() == ""


def test_what_is_held_back_is_shorter_than_the_longest_stop_string() -> None:
    filter_ = StopStrings(["aaaa"])
    given_out = "".join(filter_.feed("aaab") for _ in range(100))
    assert len(given_out) + len(filter_.flush()) == 400
    assert len(given_out) > 400 - 4
