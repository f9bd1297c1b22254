"""Whether the hub reaches the broker: what it writes down, and what commands say of it."""

import json
from pathlib import Path

from buskit.locks import FileLock
from hqconsole.home import HUB_LOCK_NAME
from hqconsole.hub_link import FILE_NAME, HubLink, LinkTeller, hub_link
from tests.hq_console.conftest import Run


def test_what_changes_is_written_down_and_since_when(tmp_path: Path) -> None:
    """The reason may change while the connection is gone; the time stays that of the loss."""
    times = iter((100.0, 200.0, 300.0))
    teller = LinkTeller(tmp_path, wall_clock=lambda: next(times))
    assert hub_link(tmp_path) is None
    teller.tell("refused")
    assert hub_link(tmp_path) == HubLink(connected=False, since_at=100.0, failure="refused")
    teller.tell("no route")
    assert hub_link(tmp_path) == HubLink(connected=False, since_at=100.0, failure="no route")
    teller.tell(None)
    assert hub_link(tmp_path) == HubLink(connected=True, since_at=200.0)
    (tmp_path / FILE_NAME).unlink()
    teller.tell(None)
    assert hub_link(tmp_path) is None
    teller.tell("gone")
    assert hub_link(tmp_path) == HubLink(connected=False, since_at=300.0, failure="gone")


def test_commands_say_that_what_they_show_of_stores_is_old(run: Run, home: Path) -> None:
    """A hub that is cut off is not taken for one that hears, with nothing said by a dead one."""
    directive = json.loads(run("publish", "Hello", "--all", "--json")[1])["id"]
    LinkTeller(home, wall_clock=lambda: 0.0).tell("no route")
    assert json.loads(run("status", "--json")[1])["hub_connected"] is None
    lock = FileLock(home / HUB_LOCK_NAME)
    lock.acquire(1.0)
    try:
        for words in (("status",), ("stores",), ("who", directive)):
            errors = run(*words)[2]
            assert "no connection to the broker since" in errors, words
            assert "(no route)" in errors
        assert json.loads(run("status", "--json")[1])["hub_connected"] is False
        LinkTeller(home, wall_clock=lambda: 0.0).tell(None)
        assert "no connection" not in run("stores")[2]
        assert json.loads(run("status", "--json")[1])["hub_connected"] is True
        (home / FILE_NAME).write_text("[")
        assert json.loads(run("status", "--json")[1])["hub_connected"] is None
    finally:
        lock.release()
        lock.close()
