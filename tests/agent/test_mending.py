"""A damaged database is set aside: what is good goes on, what is lost is counted and told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from buskit.database import DatabaseDamaged, DatabaseFailed
from buswire.cursors import Cursor
from buswire.uplink import Settled
from storeagent import mending
from storeagent.api import Agent
from storeagent.database import KEY_NAME, database_path, open_agent_database
from storeagent.limits import Limits
from storeagent.memory import Memory
from storeagent.mending import TROUBLE, Mended, is_suspected, mend, mended
from storeagent.outbox import Outbox
from storeagent.scripts import Scripts, random_id

KEYS = [f"key-{number}" for number in range(8)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A device with eight alerts, of which HQ has the first three."""
    with open_agent_database(database_path(tmp_path), create=True) as database:
        scripts = Scripts(database, wall_clock=lambda: 1e9)
        for key in KEYS:
            scripts.alert("incident", {"what": f"what {key}"}, key=key)
        (third,) = scripts.outbox.entries("act", after=2, most=1, most_bytes=1)
        with database.write():
            scripts.outbox.settle(Settled("act", Cursor(3, third.record.id), 3))
            Memory(database).keep("install", "f" * 32)
            Memory(database).keep("starts", 4)
    (tmp_path / KEY_NAME).write_text("{}")
    (tmp_path / "agent.toml").write_text("")
    return tmp_path


def spoil(path: Path, old: bytes, new: bytes) -> None:
    """Put other bytes in the place of some."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def do_mend(home: Path, **heads: int) -> Mended:
    """Mend a home."""
    return mend(home, limits=Limits(), why="a test", at=1e9, new_id=random_id, heads=heads)


def pending(home: Path) -> list[str]:
    """What waits for HQ."""
    with open_agent_database(database_path(home)) as database:
        outbox = Outbox(database)
        _, position = outbox.acked()["act"]
        found = outbox.entries("act", after=position, most=100, most_bytes=1 << 20)
    said = [json.loads(bytes(one.record.data)) for one in found]
    return [one["fields"]["what"] if "fields" in one else one["what"] for one in said]


def test_what_the_disk_has_changed_is_not_sent(home: Path) -> None:
    """A letter of an alert is another one: the alert is not given out, nor anything behind it."""
    spoil(database_path(home), b"what key-5", b"what kex-5")
    with open_agent_database(database_path(home)) as database:
        outbox = Outbox(database)
        assert len(outbox.entries("act", after=0, most=5, most_bytes=1 << 20)) == 5
        with pytest.raises(DatabaseDamaged):
            outbox.entries("act", after=0, most=6, most_bytes=1 << 20)


def test_what_is_good_goes_on_and_what_is_lost_is_counted(home: Path) -> None:
    """The other alerts are sent, in order, with HQ's cursor where it was; HQ hears of the one."""
    spoil(database_path(home), b"what key-5", b"what kex-5")
    result = do_mend(home)
    assert (result.saved["act"], result.lost["act"], result.open_ended) == (4, 1, False)
    waiting = [f"what {key}" for key in KEYS[3:] if key != "key-5"]
    assert pending(home) == [*waiting, TROUBLE]
    with open_agent_database(database_path(home)) as database:
        database.check()
        memory = Memory(database)
        assert (memory.text("install"), memory.number("starts")) == ("f" * 32, 4)
        assert Outbox(database).acked()["act"][0].seq == 3
        assert mended(home, memory) == result
    assert b"what kex-5" in (home / result.kept).read_bytes()
    (home / result.kept).unlink()
    with open_agent_database(database_path(home)) as database:
        assert mended(home, Memory(database)) is None


@pytest.mark.parametrize("spoil_it", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_where_nothing_is_left_nobody_says_that_nothing_is_lost(
    home: Path, spoil_it: Callable[[Path], object]
) -> None:
    """The number is open, and HQ is told so."""
    spoil_it(database_path(home))
    result = do_mend(home)
    assert result.open_ended
    assert "or more" in result.words()
    assert pending(home) == [TROUBLE]


def test_commands_say_what_is_wrong_and_wake_the_daemon(home: Path) -> None:
    """They record nothing, name the way out, and leave a mark for the daemon."""
    path = database_path(home)
    spoil(path, b"acked", b"axked")
    with Agent(home) as agent, pytest.raises(DatabaseDamaged) as caught:
        agent.alert("incident", what="new")
    assert "storeagent run" in str(caught.value.hint)
    assert is_suspected(home)


def test_who_has_the_old_file_open_cannot_write_into_it(home: Path) -> None:
    """What would be accepted there would be gone; said again, it is in the new one."""
    with Agent(home) as agent:
        agent.alert("incident", what="before")
        do_mend(home)
        with pytest.raises(DatabaseFailed):
            agent.alert("incident", what="behind")
        agent.alert("incident", what="behind")
    assert pending(home)[-3:] == ["before", TROUBLE, "behind"]


def test_a_mending_that_was_killed_half_way_is_finished(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was saved by then is in the new one; nothing is accepted before it is in its place."""
    path = database_path(home)
    agent = Agent(home)
    agent.alert("incident", what="in the log")
    assert path.with_name("agent.db-wal").stat().st_size > 0
    real = mending.replace

    def die(source: Path, target: Path) -> None:
        if target == path:
            raise OSError(5, "as planned")
        real(source, target)

    monkeypatch.setattr(mending, "replace", die)
    with pytest.raises(DatabaseFailed):
        do_mend(home)
    with pytest.raises(DatabaseFailed):
        agent.alert("incident", what="into what is set aside")
    agent.close()
    with pytest.raises(DatabaseDamaged), Agent(home) as later:
        later.alert("incident", what="into nothing")
    with pytest.raises(DatabaseFailed):
        do_mend(home)
    monkeypatch.undo()
    result = do_mend(home)
    waiting = [f"what {key}" for key in KEYS[3:]]
    assert pending(home) == [*waiting, "in the log", TROUBLE]
    assert (result.saved["act"], result.lost["act"], result.why) == (6, 0, "a test")
    assert (home / result.kept).is_file()
    with open_agent_database(path) as database:
        database.check()
        assert mended(home, Memory(database)) == result


def test_what_a_killed_mending_had_only_begun_is_begun_anew(home: Path) -> None:
    """A half-made database is never taken for one that is ready."""
    workshop = home / "mending"
    workshop.mkdir()
    (workshop / "new.db").write_bytes(b"half of it")
    assert do_mend(home).saved["act"] == 5
    assert not workshop.exists()
    database_path(home).unlink()
    workshop.mkdir()
    (workshop / "new.db").write_bytes(b"half of it")
    assert do_mend(home).open_ended
    assert pending(home) == [TROUBLE]
