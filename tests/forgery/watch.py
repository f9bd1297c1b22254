"""Sees from outside whether a message was believed: what is kept, what is said, what is planned."""

from collections import Counter
from dataclasses import dataclass, field

from buswire.messages import Hello, Records
from tests.forgery.bus import Bus, Delivery, Picture
from tests.forgery.forger import Forger, Forgery


class BelievedError(Exception):
    """A forgery had an effect."""


@dataclass
class Watch:
    """Hands forgeries over before each genuine message, and looks.

    Attributes:
        forged: How many, by the kind of what they pretend to be.
        believed: What had an effect.
        effective: The kinds of genuine messages that had one, as they were delivered.
        most: How many messages of a kind are forged, of each that it is to and topic that it is on.
        impatient: Whether to stop at the first that was believed, with an error.
    """

    bus: Bus
    forger: Forger
    forged: Counter[str] = field(default_factory=Counter)
    believed: list[str] = field(default_factory=list)
    effective: set[str] = field(default_factory=set)
    most: int = 1_000_000
    impatient: bool = False
    _seen: tuple[Picture, object] | None = None
    _forged_so: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def before(self, genuine: Delivery) -> None:
        """Hand over every forgery of a message that is about to be delivered."""
        place = genuine.kind, genuine.to, genuine.topic
        self._forged_so[place] += 1
        if self._forged_so[place] > self.most:
            self._seen = self.picture(genuine.to), self._plan(genuine.to)
            return
        seen = self.pictures()
        for forgery in self.forger.forgeries(genuine):
            if not (forgery.unknown_key and self.bus.is_calm):
                self._hand_over(genuine.kind, forgery)
        for name, now in self.pictures().items():
            if now != seen[name]:
                self._believe(
                    f"{name} changed with the forgeries of a {genuine.kind} to {genuine.to}: "
                    f"{_difference(seen[name], now)}"
                )
        self._seen = seen[genuine.to], self._plan(genuine.to)

    def after(self, genuine: Delivery) -> None:
        """See that the genuine message had an effect."""
        self.forger.remember(genuine)
        now = self.picture(genuine.to), self._plan(genuine.to)
        if now != self._seen or self.bus.said:
            self.effective.add(genuine.kind)

    def _believe(self, what: str) -> None:
        self.believed.append(what)
        if self.impatient:
            raise BelievedError(what)

    def _hand_over(self, kind: str, forgery: Forgery) -> None:
        self.forged[kind] += 1
        delivery = forgery.delivery
        plan = self._plan(delivery.to)
        said = self.bus.deliver(delivery, carry_on=False)
        honest = [one for one in said if self._is_owed(one)]
        if len(honest) < len(said):
            self._believe(f"{forgery.what}: a {kind} to {delivery.to} was answered")
        if not forgery.unknown_key and self._plan(delivery.to) != plan:
            self._believe(f"{forgery.what}: a {kind} to {delivery.to} is acted upon")
        self.bus.send(honest)

    def _is_owed(self, said: Delivery) -> bool:
        """Whether it is what a device may say about what it refuses: that, or a hello."""
        if said.to != "hq":
            return False
        message = said.message
        return isinstance(message, Hello) or (
            isinstance(message, Records)
            and all(record.kind == "trouble" for record in message.records)
        )

    def pictures(self) -> dict[str, Picture]:
        """All that everybody keeps."""
        names = ("hq", *self.bus.tills, *self.bus.joining)
        return {name: self.picture(name) for name in names}

    def picture(self, name: str) -> Picture:
        """All that one of them keeps: HQ, a device, or who joins."""
        if name == "hq":
            return self.bus.picture()
        till = self.bus.tills.get(name)
        return {"joined": list(self.bus.joined[name])} if till is None else till.picture()

    def _plan(self, name: str) -> object:
        till = self.bus.tills.get(name)
        if till is None:
            return None
        machine = till.core._machine
        return machine.nonce, machine.next_at(), till.core.trusted


def _difference(before: Picture, now: Picture) -> str:
    return "; ".join(
        f"{table}: {[row for row in now[table] if row not in rows][:2]} "
        f"for {[row for row in rows if row not in now[table]][:2]}"
        for table, rows in before.items()
        if now.get(table) != rows
    )[:1500]
