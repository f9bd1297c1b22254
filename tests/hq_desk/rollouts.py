"""An office whose directives go out in parts, and stores that answer: what tests of lives share.

Everything happens by the code that commands and the hub run; only time and the network are made up.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Raw

from buswire.cursors import START, Cursor, advance
from buswire.messages import Receipt, Record, Records, Withdrawn, encode_data
from buswire.states import Needs, State
from buswire.topics import ALL_PLACE, Channel, Identity
from hqconsole import composing
from hqconsole.audience import Mailbox, Organisation, digest, select
from hqconsole.composing import Wish
from hqconsole.desk import Linked, Publish, Tick
from hqconsole.kinds import Kind
from hqconsole.ledger import directives, lifecycles, steps, waves, withdrawing
from hqconsole.ledger.deliveries import STATE_OF
from hqconsole.ledger.organisation import organisation, timezones
from hqconsole.ledger.steps import ADOPT
from hqconsole.lifecycle import MACHINE, Action, DirectiveState
from hqconsole.selector import Selector
from tests.hq_desk.office import AT, Office, new_id

EVERYONE = Selector(everyone=True)
TASK = Kind("task", needs=Needs.DONE)


class Rollouts(Office):
    """Head office in memory, with the verbs that act on a directive."""

    def __init__(
        self, stores: Sequence[str] = ("S1", "S2", "S3", "S4"), *, at: float = AT, **more: Any
    ) -> None:
        super().__init__(None, at=at)
        self.cursors: dict[Identity, Cursor] = {}
        self.enrolled = {"S1", "S2"}
        self.logged_no = 0
        self.people(*stores, **more)
        self.tick(Linked())

    def people(self, *stores: str, **more: Any) -> None:
        """Make the roster these stores, each with a device that was let in."""
        self.roster(*stores, **more)
        for store in sorted(set(stores) - self.enrolled):
            self.enrol(Identity(store, "till-1"))
        self.enrolled |= set(stores)

    def tick(self, *events: Any) -> list[Publish]:
        """Let the hub do what is due."""
        return self.desk.handle([*events, Tick()], self.now)

    def restart(self) -> None:
        """Another hub on the same ledger."""
        self.desk = self.another_desk()
        self.tick(Linked())

    def later(self, seconds: float) -> None:
        """Time goes by, and then the hub does what is due."""
        self.let_pass(seconds)
        self.tick()

    def there(self) -> Organisation:
        """Today's roster."""
        return organisation(self.ledger.connection)

    # --- verbs -----------------------------------------------------------------------------------

    def write(
        self,
        title: str = "In parts",
        *,
        kind: Kind = TASK,
        to: Selector = EVERYONE,
        author: str = "ana",
        zone: str = "UTC",
        **wish: Any,
    ) -> int:
        """Write a draft as `hq publish --draft` does. Returns its number."""
        composed = composing.compose(
            Wish(title, kind=kind, **wish),
            to,
            author=author,
            issued_by="Ana",
            now=datetime.fromtimestamp(self.at, UTC),
            zone=zone,
        )
        with self.ledger.write() as connection:
            cut = composing.waves(
                composed,
                select(to, organisation(connection)),
                zones=lambda: timezones(connection),
                zone=zone,
            )
            return directives.write(
                connection, composed.draft, composed.plan, cut, at=self.at, new_id=new_id
            ).no

    def start(self, no: int) -> DirectiveState:
        """Let a draft go that needs nobody's approval."""
        return self._sending(waves.begin, no, by="ana", organisation=self.there)

    def out(self, title: str = "In parts", **wish: Any) -> int:
        """Write one and let it go."""
        no = self.write(title, **wish)
        self.start(no)
        self.tick()
        return no

    def submit(self, no: int, by: str = "ana") -> None:
        """Ask for approval."""
        with self.ledger.write() as connection:
            lifecycles.submit(connection, no, by=by, why="every task needs it", at=self.at)

    def approve(self, no: int, by: str = "bob") -> DirectiveState:
        """Let it out."""
        return self._sending(lifecycles.approve, no, by=by, organisation=self.there)

    def pause(self, no: int) -> None:
        """By hand."""
        with self.ledger.write() as connection:
            waves.pause(connection, no, why="by hand", at=self.at, by="ana")

    def resume(self, no: int) -> DirectiveState:
        """By hand."""
        return self._sending(waves.resume, no, by="ana", organisation=self.there)

    def deny(self, no: int) -> None:
        """Say no."""
        with self.ledger.write() as connection:
            lifecycles.deny(connection, no, by="bob", why="not like this", at=self.at)

    def stop(self, no: int) -> int:
        """By hand."""
        with self.ledger.write() as connection:
            return waves.stop(connection, no, at=self.at, by="ana")

    def cancel(self, no: int, **more: Any) -> int:
        """Withdraw it."""
        return self._sending(
            withdrawing.cancel, no, reason="", by="ana", organisation=self.there(), **more
        )

    def remove(self, no: int, *stores: str) -> int:
        """Wait for these stores no longer."""
        mailboxes = {Mailbox(store, "any") for store in stores}
        return self._sending(lifecycles.remove, no, mailboxes, by="ana", reason="")

    def remind(self, no: int) -> int:
        """Remind by hand."""
        return self._sending(lifecycles.remind, no, text="", by="ana", organisation=self.there())

    def _sending(self, verb: Callable[..., Any], *values: Any, **more: Any) -> Any:
        with self.ledger.write() as connection:
            return verb(connection, *values, at=self.at, new_id=new_id, **more)

    # --- stores ----------------------------------------------------------------------------------

    def say(self, store: str, *records: Record, device: str = "till-1") -> list[Any]:
        """Records of a store's device arrive, behind those before."""
        identity = Identity(store, device)
        after = self.cursors.get(identity, START)
        said = self.hear(Records(log="act", after=after, records=list(records)), identity=identity)
        self.cursors[identity] = advance(after, [record.id for record in records])
        return said

    def answer(
        self, no: int, store: str, state: State, *, device: str = "till-1", **more: Any
    ) -> None:
        """A store says where it stands."""
        at = more.pop("at", self.at)
        said = Receipt(directive=self.id_of(no), role="any", state=state, **more)
        record = Record(id=new_id(), kind="receipt", at=at, data=Raw(encode_data(said)))
        self.say(store, record, device=device)

    def withdrawn(self, no: int, store: str, was: State, *, device: str = "till-1") -> None:
        """A device says that it has taken the withdrawal."""
        said = Withdrawn(directive=self.id_of(no), role="any", was=was)
        record = Record(id=new_id(), kind="withdrawn", at=self.at, data=Raw(encode_data(said)))
        self.say(store, record, device=device)

    # --- what is there ---------------------------------------------------------------------------

    def id_of(self, no: int) -> str:
        """Of a directive."""
        return directives.id_of(self.ledger.connection, no)

    def state(self, no: int) -> DirectiveState:
        """Of a directive."""
        return steps.state_of(self.ledger.connection, no)

    def actions(self, no: int) -> list[str]:
        """What happened to it."""
        return [step.action for step in steps.steps(self.ledger.connection, no)]

    def sent(self, no: int) -> dict[str, State]:
        """The state of each delivery, by store."""
        return {
            store: STATE_OF[state]
            for store, state in self.rows(
                "SELECT store.id, state FROM delivery JOIN mailbox ON mailbox.no = mailbox_no"
                " JOIN store ON store.no = store_no WHERE directive_no = ?",
                no,
            )
        }

    def planned(self, no: int) -> set[str]:
        """The stores that are still to get it."""
        return {
            store
            for (store,) in self.rows(
                "SELECT store.id FROM planned JOIN mailbox ON mailbox.no = mailbox_no"
                " JOIN store ON store.no = store_no WHERE directive_no = ?",
                no,
            )
        }

    def wave_of(self, no: int) -> dict[str, int]:
        """In which wave a store is, sent or not."""
        return dict(
            self.rows(
                "SELECT store.id, wave_no FROM (SELECT mailbox_no, wave_no FROM delivery"
                " WHERE directive_no = ?1 AND wave_no IS NOT NULL UNION ALL"
                " SELECT mailbox_no, wave_no FROM planned WHERE directive_no = ?1)"
                " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = store_no",
                no,
            )
        )

    def code(self, no: int, mailbox_no: int) -> State:
        """The state of one delivery."""
        ((state,),) = self.rows(
            "SELECT state FROM delivery WHERE directive_no = ? AND mailbox_no = ?", no, mailbox_no
        )
        return STATE_OF[state]

    def late(self, no: int, store: str) -> int:
        """The bits of `delivery.late`."""
        (found,) = self.rows(
            "SELECT ifnull(late, 0) FROM delivery JOIN mailbox ON mailbox.no = mailbox_no"
            " JOIN store ON store.no = store_no WHERE directive_no = ? AND store.id = ?",
            no,
            store,
        )
        return int(found[0])

    def new_records(self, no: int, kind: str = "directive") -> list[set[str]]:
        """The stores that each new record of a kind about a directive reaches by its channel."""
        there = self.there()
        through = self.logged_no
        found = []
        for log_no, name, data in self.rows(
            "SELECT channel_log.no, channel.name, doc.data FROM channel_log"
            " JOIN channel ON channel.no = channel_no JOIN doc ON doc.no = doc_no"
            " WHERE channel_log.no > ? AND doc.kind = ? ORDER BY channel_log.no",
            through,
            kind,
        ):
            self.logged_no = max(self.logged_no, log_no)
            document = json.loads(bytes(data))
            if self.id_of(no) in {document.get("id"), document.get("directive")}:
                found.append(reached(Channel.parse(name), there))
        return found

    def check(self, no: int) -> None:
        """What holds for every directive at any time."""
        sent, planned = set(self.sent(no)), self.planned(no)
        assert not sent & planned, "a mailbox is sent and planned"
        joined = {
            store
            for (store,) in self.rows(
                "SELECT store.id FROM delivery JOIN mailbox ON mailbox.no = mailbox_no"
                " JOIN store ON store.no = store_no"
                " WHERE directive_no = ? AND joined_at IS NOT NULL",
                no,
            )
        }
        ((frozen, mailboxes),) = self.rows(
            "SELECT digest, mailboxes FROM directive WHERE no = ?", no
        )
        audience = {Mailbox(store, "any") for store in (sent - joined) | planned}
        assert (digest(audience), len(audience)) == (frozen, mailboxes), "the audience is frozen"
        before: DirectiveState | None = None
        for step in steps.steps(self.ledger.connection, no):
            state = DirectiveState(step.state)
            if before is not None and state is not before and step.action != ADOPT:
                assert MACHINE[before][Action(step.action)] is state, step
            before = state
        assert before is self.state(no), "the last step says where it stands"


def reached(channel: Channel, there: Organisation) -> set[str]:
    """The stores of a channel today."""
    if channel.place == ALL_PLACE:
        return set(there.stores)
    kind, _, place = channel.place.partition("/")
    return set(there.regions.get(place, ())) if kind == "region" else {place}
