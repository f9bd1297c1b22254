"""HQ's time of day: follows its machine's clock, but not wherever that jumps."""

import pytest

from hqconsole.ledger import directives
from hqconsole.steady_clock import SteadyClock
from hqconsole.timekeeping import CLOCK_SET
from tests.hq_desk.office import AT, OTHER, TILL, Office

YEAR = 365 * 86_400.0
JUMPS = (3600.0, -3600.0, 86_400.0, -86_400.0, YEAR, -YEAR, -AT, 4_102_444_800.0 - AT)


class Machine:
    """A machine with a clock that can be set."""

    def __init__(self, last_at: float | None = None) -> None:
        self.now = 50.0
        self.wall = AT
        self.clock = SteadyClock(lambda: self.wall, last_at=last_at)
        self.told()

    def told(self, passes: float = 0.0) -> float:
        """What the clock tells, so much later."""
        self.now += passes
        self.wall += passes
        return self.clock.at(self.now)


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_is_not_followed_and_a_return_is(jump: float) -> None:
    """However far it is set, time goes on as before; set back again, nobody has noticed."""
    machine = Machine()
    machine.wall += jump
    assert machine.told(10) == AT + 10
    assert machine.told(1000) == AT + 1010
    machine.wall -= jump
    assert machine.told(10) == AT + 1020
    assert machine.clock.doubted_since is None


def test_small_corrections_are_followed() -> None:
    """A time server, or a machine that slept for minutes."""
    machine = Machine()
    machine.wall += 299
    assert machine.told() == AT + 299


@pytest.mark.parametrize("jump", JUMPS)
def test_devices_confirm_a_jump(jump: float) -> None:
    """Three that say so, or after a while the majority of those who say anything."""
    machine = Machine()
    machine.wall += jump
    machine.told()
    for who in ("a", "b", "b", "b"):
        machine.clock.witness(who, machine.wall, 0.0, machine.now)
    assert machine.told() == AT, "two are too few so soon, however often they say it"
    machine.clock.witness("c", machine.wall, 0.0, machine.now)
    assert machine.told() == machine.wall
    machine = Machine()
    machine.wall += jump
    assert machine.told(0) == AT
    machine.told(61)
    machine.clock.witness("a", AT + 61, 0.0, machine.now)
    machine.clock.witness("b", AT + jump + 61, 0.0, machine.now)
    assert machine.told() == AT + 61, "one each"


def test_a_new_process_asks_whether_it_is_so_late() -> None:
    """A day may well have passed; a year, or less than nothing, must be confirmed."""
    assert Machine(last_at=AT - 80_000).told() == AT
    assert Machine(last_at=AT - YEAR).told() == AT - YEAR
    assert Machine(last_at=AT + YEAR).told() == AT + YEAR


def test_nothing_expires_because_the_clock_was_set(office: Office) -> None:
    """Neither while the hub runs nor when it starts; an operator hears of it, and can say so."""
    office.hello()
    issued = office.issue(expires_at=AT + 86_400.0)
    office.desk.handle([], office.now)
    office.at += YEAR
    for _ in range(5):
        office.now += 30
        office.at += 30
        office.desk.handle([], office.now)
    assert directives.next_expiry(office.ledger.connection) is not None
    assert office.incidents() == [CLOCK_SET]
    office.desk = office.another_desk()
    office.now += 100
    office.at += 100
    office.desk.handle([], office.now)
    assert directives.next_expiry(office.ledger.connection) is not None, issued
    office.now += 100
    office.desk.handle([], office.now)
    with office.ledger.write() as connection:
        connection.execute("UPDATE incident SET acknowledged_at = 1")
    office.desk.handle([], office.now)
    office.desk.handle([], office.now)
    assert directives.next_expiry(office.ledger.connection) is None


def test_the_hub_follows_its_clock_when_devices_confirm_it(office: Office) -> None:
    """A clock that was wrong from the beginning can be set right: devices have the same time."""
    for identity in (TILL, OTHER):
        office.hello(identity=identity, clock_at=AT + YEAR)
    office.at += YEAR
    office.desk.handle([], office.now)
    office.let_pass(61)
    assert office.desk.clock_at(office.now) == AT + 61
    office.hello(clock_at=office.at)
    assert office.desk.clock_at(office.now) == office.at


def test_devices_that_stay_behind_outvote_the_clock(office: Office) -> None:
    """Their clocks show no jump; whether they are right to begin with does not matter."""
    office.hello(clock_at=AT)
    office.hello(identity=OTHER, clock_at=AT - YEAR)
    office.at += YEAR
    office.desk.handle([], office.now)
    office.let_pass(61)
    office.hello(clock_at=AT + 61)
    office.hello(identity=OTHER, clock_at=AT + 61 - YEAR)
    assert office.desk.clock_at(office.now) == AT + 61
    offsets = office.rows("SELECT clock_offset_seconds FROM device ORDER BY no")
    assert sorted(offsets) == [(0.0,), (YEAR,)]


def test_the_hub_was_off_for_a_week(office: Office) -> None:
    """Devices whose clocks went on as before say so, right or wrong; then expiry goes on too."""
    office.hello(clock_at=AT)
    office.hello(identity=OTHER, clock_at=AT - YEAR)
    office.issue(expires_at=AT + 86_400.0)
    office.let_pass(7 * 86_400.0)
    office.desk = office.another_desk()
    office.now = 5.0
    office.desk.handle([], office.now)
    office.let_pass(61)
    office.hello(identity=OTHER, clock_at=office.at - YEAR)
    assert office.desk.clock_at(office.now) == office.at
    office.desk.handle([], office.now)
    assert directives.next_expiry(office.ledger.connection) is None
