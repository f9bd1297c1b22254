"""Logs and cursors, against a model that keeps whole logs and compares them record by record."""

from hypothesis import given, settings
from hypothesis import strategies as st

from buswire.cursors import START, Cursor, Misfit, advance, fit
from tests.wire.words import id_of


def _logs(shared: int, mine: int, theirs: int) -> tuple[list[str], list[str]]:
    """Two logs with a common beginning, as after one side came back from an older copy."""
    common = [id_of(number) for number in range(1, shared + 1)]
    return (
        common + [id_of(1000 + number) for number in range(mine)],
        common + [id_of(2000 + number) for number in range(theirs)],
    )


def _cursor(log: list[str], seq: int) -> Cursor:
    return Cursor(seq, log[seq - 1]) if seq else START


def _model(log: list[str], read: int, other: list[str], first: int, last: int) -> int | Misfit:
    """What is right, knowing both whole logs: `log[:read]` is read, `other[first:last]` comes."""
    if first > read:
        return Misfit.GAP
    if last < read or first == last:
        return Misfit.DUPLICATE
    if log[:read] != other[:read]:
        return Misfit.GAP
    return Misfit.DUPLICATE if last == read else read - first


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_fit_takes_what_whole_logs_compared_would_take(data: st.DataObject) -> None:
    """Number and id of one record decide as well as both logs in full."""
    mine, theirs = _logs(*(data.draw(st.integers(0, 5), label=part) for part in ("a", "b", "c")))
    read = data.draw(st.integers(0, len(mine)), label="read")
    first = data.draw(st.integers(0, len(theirs)), label="first")
    last = data.draw(st.integers(first, len(theirs)), label="last")
    found = fit(_cursor(mine, read), _cursor(theirs, first), theirs[first:last])
    assert found == _model(mine, read, theirs, first, last)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), max_size=40))
def test_a_reader_has_each_record_once_and_in_order(cuts: list[tuple[int, int]]) -> None:
    """Whatever pieces of a log come in whatever order, what is taken is a beginning of the log."""
    log = [id_of(number) for number in range(1, 13)]
    cursor, taken = START, []
    for first, length in cuts:
        after, ids = _cursor(log, first), log[first : first + length]
        found = fit(cursor, after, ids)
        if isinstance(found, int):
            taken += ids[found:]
            cursor = advance(after, ids)
    assert taken == log[: len(taken)]
    assert cursor == _cursor(log, len(taken))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5), st.data())
def test_nothing_is_taken_across_two_histories(
    shared: int, mine: int, theirs: int, data: st.DataObject
) -> None:
    """A reader that went on alone takes nothing of the log that went on without it."""
    log, other = _logs(shared, mine, theirs)
    read = data.draw(st.integers(shared + 1, len(log)))
    first = data.draw(st.integers(0, len(other)))
    assert isinstance(fit(_cursor(log, read), _cursor(other, first), other[first:]), Misfit)


def test_advance_ends_at_the_last_record() -> None:
    """The cursor behind no records is the one before them."""
    assert advance(START, []) == START
    assert advance(Cursor(4, id_of(4)), [id_of(5), id_of(6)]) == Cursor(6, id_of(6))
