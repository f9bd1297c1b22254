"""A record of HQ's on which the agent fails does not stop the rest, and comes again."""

from typing import Any

import pytest

from storeagent.core import Linked, Rang
from storeagent.effects import CANNOT, Effects
from storeagent.main import main
from storeagent.memory import ASK_ANEW
from tests.agent.device import Device
from tests.agent.head_office import HeadOffice
from tests.agent.words import ALL_ANY, STORE_ANY, ids


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The agent fails on directive 2."""
    insert = Effects._insert

    def insert_or_fail(effects: Effects, directive: Any, *said: Any) -> Any:
        inserted = insert(effects, directive, *said)
        if directive.id == ids("d", 2):
            raise ZeroDivisionError("as planned")
        return inserted

    monkeypatch.setattr(Effects, "_insert", insert_or_fail)
    return monkeypatch


def _linked() -> Device:
    hq = HeadOffice()
    hq.keeps_deliveries = True
    device = Device(hq)
    device.talk(Linked())
    device.go_on(5)
    return device


def _work(device: Device) -> set[str]:
    return {item.delivery.directive for item in device.core.inbox.items()}


def test_the_rest_goes_on_and_what_failed_is_told(failing: pytest.MonkeyPatch) -> None:
    """In the same message, and in the log behind it."""
    device = _linked()
    hq = device.hq
    device.talk(*(hq.issue(STORE_ANY, number) for number in (1, 2, 3)))
    device.talk(hq.issue(ALL_ANY, 4))
    device.go_on(30)
    assert _work(device) == {ids("d", number) for number in (1, 3, 4)}
    (aside,) = device.core.inbox.asides()
    assert aside.what == f"{CANNOT}: ZeroDivisionError: as planned"
    assert any(record.kind == "trouble" for record in hq.taken.values())
    failing.undo()
    device.open(device.database, process=device.core.process)
    assert device.core.inbox.aside_count() == 1


def test_it_comes_again_when_it_is_asked_for(
    failing: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a retry by a person; and by itself to a new version."""
    for by_hand in (True, False):
        device = _linked()
        device.talk(*(device.hq.issue(STORE_ANY, number) for number in (1, 2)))
        device.go_on(10)
        assert _work(device) == {ids("d", 1)}
        with pytest.MonkeyPatch.context() as mended:
            mended.setattr(Effects, "_insert", Effects._insert.__closure__[0].cell_contents)
            if by_hand:
                with device.database.write():
                    device.core.memory.keep(ASK_ANEW, 1)
                device.talk(Rang())
            else:
                with device.database.write():
                    device.core.memory.keep("version", "another one")
                device.open(device.database)
                device.talk(Linked())
            device.go_on(30)
        assert _work(device) == {ids("d", 1), ids("d", 2)}
    assert main.run(["retry", "--home", str(tmp_path)]) == 1
    assert "storeagent join" in capsys.readouterr().err
    del failing


def test_a_defect_that_no_message_is_to_blame_for_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The daemon then waits and tries again; good messages are not put aside for it."""
    device = _linked()

    def fail(*_: object) -> None:
        raise KeyError("as planned")

    with monkeypatch.context() as patch:
        patch.setattr(device.core._machine.__class__, "tick", fail)
        with pytest.raises(KeyError):
            device.handle(Rang())
    assert device.core.inbox.aside_count() == 0
    device.talk(device.hq.issue(STORE_ANY, 1))
    assert _work(device) == {ids("d", 1)}
