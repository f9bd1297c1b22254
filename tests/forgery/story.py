"""What happens on the honest bus: in its course every kind of message is said, both ways.

The organisation: S1 and S2 in region east, W1 in west. `S1.gone` was a device and is revoked,
`S1.new` had another key before, `S1.joins` joins with a bundle.
"""

from buswire.states import Needs
from hqconsole.audience import Selector
from storeagent.reports import Table
from tests.forgery.bus import Bus, Delivery, key

TILLS = ("S1.till", "S1.office", "S2.till", "W1.till")
GONE = "S1.gone"
RENEWED = "S1.new"
JOINS = "S1.joins"

KINDS = {
    *("hello", "records act", "records bulk", "bye", "join"),
    *("welcome replay", "welcome snapshot", "welcome later", "records on to", "records on down"),
    *("snapshot", "ack", "nudge", "heads", "hub", "joined"),
}
"""What must be said in the course of the story."""


def begin(name: str, root: str = "storebus/v1") -> Bus:
    """A chain with its devices let in, and what only the past knows done."""
    bus = Bus(name, root)
    bus.roster({"S1": "east", "S2": "east", "W1": "west"})
    for till in TILLS:
        bus.add_till(till)
    bus.add_till(GONE)
    bus.enrol(RENEWED, key(f"{name} {RENEWED}, the key of before"))
    bus.add_till(RENEWED)
    return bus


def past(bus: Bus) -> list[Delivery]:
    """Let the devices speak that may not any more; what they said, to be said again."""
    said: list[Delivery] = []
    bus.after = said.append
    bus.hub_up()
    bus.link(GONE)
    bus.carry()
    bus.tills[GONE].statements.alert("incident", {"what": "water"})
    bus.go_on(2)
    bus.bye(GONE)
    bus.revoke(GONE)
    del bus.tills[GONE]
    bus.after = lambda delivery: None
    return [one for one in said if one.to == "hq"]


def tell(bus: Bus) -> None:
    """Everything that can be said, said."""
    tills = bus.tills
    bus.link(*TILLS, RENEWED)
    bus.go_on(3, together=True)  # more at once than HQ answers: some are told to come later
    bus.go_on(40)
    first = bus.issue("Pull lot 2231", needs=Needs.DONE, priority="urgent")
    bus.issue("Read this", Selector(stores=("S1",), roles=("manager",)))
    withdrawn = bus.issue("Not now", Selector(regions=("east",)))
    bus.go_on(10)
    for name in TILLS[:2]:
        for item in tills[name].statements.inbox.items():
            tills[name].statements.read(item.delivery.directive, item.delivery.role, by="Ana")
    bus.go_on(3)
    tills["S1.till"].statements.done(first, "any", by="Ana", note="all of it")
    tills["S2.till"].statements.cannot(first, "any", reason="none here", by="Ben")
    tills["S2.till"].statements.reply(first, "any", text="What of the fridge?", by="Ben")
    tills["W1.till"].statements.alert("incident", {"what": "water", "severity": "high"})
    rows = [[f"{number:05}", number] for number in range(60)]
    tills["S1.office"].statements.report("sales", Table(["sku", "sold"], rows), key="today")
    bus.cancel(withdrawn)
    bus.go_on(10)
    bus.lose, bus.is_calm = "W1.till", True
    bus.issue("One device does not hear of it, until it hears the heads")
    bus.go_on(40)
    bus.is_calm = False
    _be_away(bus)
    _change_keys(bus)
    _join(bus)
    bus.roster({"S1": "east", "S2": "east", "W1": "north"})
    bus.go_on(10)
    bus.hub_down()
    bus.hub_up()
    bus.go_on(40)
    bus.bye("W1.till")


def _be_away(bus: Bus) -> None:
    """Come back a little late, and much too late."""
    for name, missed in (("S2.till", 2), ("W1.till", 9)):
        bus.unlink(name)
        for number in range(missed):
            bus.issue(f"{number} of {missed} that {name} misses", needs=Needs.DONE, body="x" * 300)
        bus.go_on(5)
        bus.link(name)
        bus.go_on(15)


def _change_keys(bus: Bus) -> None:
    """One rotation, one recovery; a device sleeps through both."""
    bus.unlink("S1.office")
    bus.keys.rotate()
    bus.desk.take_keys(bus.keys)
    bus.go_on(40)
    bus.keys.recover(stolen=True)
    bus.desk.take_keys(bus.keys)
    bus.issue("With a new key")
    bus.go_on(40)
    bus.link("S1.office")
    bus.go_on(20)


def _join(bus: Bus) -> None:
    """Somebody joins, and asks twice."""
    joining = bus.invite(JOINS)
    (bundle,) = (one for one, known in bus.joining.items() if known is joining)
    bus.ask_to_join(bundle)
    bus.ask_to_join(bundle)
