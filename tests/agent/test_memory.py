"""Days by HQ's clock: what is kept for thirty of them is not let go because that clock was set."""

from buswire.messages import LOGS
from storeagent.database import open_agent_database
from storeagent.memory import DAY_SECONDS, Memory

AT = 1_800_000_000.0
_HEADS = dict.fromkeys(LOGS, 5)


def _day(memory: Memory, at: float) -> None:
    if memory.is_new_day(at):
        memory.begin_day(at, _HEADS)


def test_old_is_what_is_older_than_so_many_days_on_which_hq_was_heard() -> None:
    """Day by day, the thirtieth makes the first one old."""
    with open_agent_database(":memory:") as database, database.write():
        memory = Memory(database)
        for number in range(31):
            assert memory.day_before(AT + number * DAY_SECONDS, 30) is None
            _day(memory, AT + number * DAY_SECONDS)
        found = memory.day_before(AT + 30 * DAY_SECONDS, 30)
        assert found is not None
        assert found[0] == 1


def test_a_year_set_in_error_makes_nothing_old() -> None:
    """Neither forward nor back, nor both in turn."""
    with open_agent_database(":memory:") as database, database.write():
        memory = Memory(database)
        for jump in (0.0, 365 * DAY_SECONDS, 0.0, -AT, 0.0, 4e9 - AT, 0.0):
            _day(memory, AT + jump)
            assert memory.day_before(AT + jump, 30) is None
