"""A desk on a ledger in a file, spoken to by devices that are only messages."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Raw

from buskit.database import Database
from buswire import frame
from buswire.access import token_hash
from buswire.messages import Hello, Original, Receipt, Record, Welcome, encode_data
from buswire.signing import SigningKey
from buswire.states import Needs, State
from buswire.topics import Identity, Topics
from hqconsole.audience import Selector, select
from hqconsole.desk import Desk, Heard, Publish
from hqconsole.ledger import directives, enrolment, organisation
from hqconsole.ledger.opening import open_ledger
from hqconsole.store_row import StoreRow
from hqconsole.timing import DeskTiming, HubLimits
from tests.helpers.hq_keys import MemoryKeys

TOPICS = Topics()
TILL = Identity("S1", "till-1")
SIBLING = Identity("S1", "till-2")
OTHER = Identity("S2", "till-1")
RUN = "1" * 32
INSTALL = "a" * 32
AT = 1_800_000_000.0
_numbers = itertools.count(1)


def new_id() -> str:
    """An id that no other call has given."""
    return f"{next(_numbers):032x}"


def seed(name: str) -> bytes:
    """The same seed for the same name."""
    return hashlib.sha256(name.encode()).digest()


def key_of(identity: Identity) -> SigningKey:
    """The key that a device has in these tests."""
    return SigningKey(seed(str(identity)))


def hq_keys(name: str = "hq") -> MemoryKeys:
    """The keys of a head office."""
    numbers = itertools.count()
    return MemoryKeys(lambda: seed(f"{name} {next(numbers)}"))


class Office:
    """Head office: the desk, its ledger, and what commands do."""

    def __init__(
        self,
        home: Path | None,
        *,
        keys: MemoryKeys | None = None,
        limits: HubLimits | None = None,
        at: float = AT,
        **timing: Any,
    ) -> None:
        self.ledger: Database = open_ledger(home, create=True)
        """In memory where there is no home."""
        self.keys = keys or hq_keys()
        self.now = 1000.0
        self.at = at
        self.timing = DeskTiming(**timing)
        self.limits = limits
        self.confirms = False
        self.desk = self.another_desk()
        self.answers: list[Any] = []
        self._hellos = itertools.count(1)
        self.roster("S1", "S2")
        for identity in (TILL, OTHER):
            self.enrol(identity)

    def another_desk(self) -> Desk:
        """The hub started again on the same ledger."""
        return Desk(
            self.ledger,
            TOPICS,
            keyring=self.keys,
            draw=lambda: 0.5,
            new_id=new_id,
            wall_clock=lambda: self.at,
            timing=self.timing,
            limits=self.limits,
        )

    def let_pass(self, seconds: float) -> None:
        """Let time go by, on both clocks."""
        self.now += seconds
        self.at += seconds

    # --- commands --------------------------------------------------------------------------------

    def roster(
        self,
        *stores: str,
        region: str = "east",
        roles: Sequence[str] = ("manager",),
        zones: Mapping[str, str] | None = None,
    ) -> None:
        """Make the roster these stores, in UTC where no zone is said."""
        rows = [
            StoreRow(
                store_id=store,
                name=f"Store {store}",
                region=region,
                region_name=region,
                city="",
                country="",
                timezone=(zones or {}).get(store, "UTC"),
                roles=tuple(roles),
                role_names=tuple(roles),
                tags=(),
                extra={},
            )
            for store in stores
        ]
        with self.ledger.write() as connection:
            organisation.save_roster(connection, rows, at=self.at, new_id=new_id)

    def enrol(
        self,
        identity: Identity,
        roles: Sequence[str] | None = None,
        *,
        key: SigningKey | None = None,
    ) -> None:
        """Let a device in."""
        with self.ledger.write() as connection:
            enrolment.activate(
                connection,
                identity,
                roles,
                public=(key or key_of(identity)).public,
                token_hash=token_hash(str(identity)),
                at=self.at,
                new_id=new_id,
            )

    def issue(
        self,
        title: str = "Do it",
        *,
        needs: Needs = Needs.DONE,
        to: Selector | None = None,
        **draft: Any,
    ) -> str:
        """Issue a directive, to every store if not told otherwise."""
        with self.ledger.write() as connection:
            present = organisation.organisation(connection)
            issued = directives.issue(
                connection,
                directives.Draft(title=title, needs=needs, **draft),
                select(to or Selector(everyone=True), present),
                present,
                at=self.at,
                new_id=new_id,
            )
        return issued.id

    # --- devices ---------------------------------------------------------------------------------

    def payload(
        self, message: Any, *, identity: Identity = TILL, key: SigningKey | None = None
    ) -> bytes:
        """A message of a device, signed."""
        return frame.encode(message, TOPICS.from_(identity), key or key_of(identity))

    def hear(
        self, *messages: Any, identity: Identity = TILL, key: SigningKey | None = None
    ) -> list[Any]:
        """Hand the desk messages of a device in one batch; what it says to that device."""
        return self.hear_raw(
            *(self.payload(one, identity=identity, key=key) for one in messages), identity=identity
        )

    def hear_raw(self, *payloads: bytes, identity: Identity = TILL) -> list[Any]:
        """Hand the desk payloads on a device's topic; what it says to that device."""
        topic = TOPICS.from_(identity)
        return self.said_to(
            self.desk.handle([Heard(topic, payload) for payload in payloads], self.now), identity
        )

    def said_to(self, published: Sequence[Publish], identity: Identity = TILL) -> list[Any]:
        """The messages to one device, each signed by HQ's present key."""
        return [self.read(one) for one in published if one.topic == TOPICS.to(identity)]

    def read(self, one: Publish) -> Any:
        """A message of HQ's, signed by its present key."""
        key = self.keys.signing(self.at)
        return frame.read(one.payload, one.topic, {key.id: key.public}.get)

    def a_hello(self, **fields: Any) -> Hello:
        """What a device says on connecting; each has a higher number than the one before."""
        values = {
            "nonce": new_id(),
            "run": RUN,
            "install": INSTALL,
            "number": next(self._hellos),
            "start": 1,
            "machine": "PC-1",
            "clock_at": self.at,
            "hq_key": self.keys.signing(self.at).id,
        }
        return Hello(**(values | fields))

    def hello(self, *, identity: Identity = TILL, **fields: Any) -> Welcome:
        """Say hello and return the welcome."""
        self.answers = self.hear(self.a_hello(**fields), identity=identity)
        welcome = self.answers[0]
        assert isinstance(welcome, Welcome)
        return welcome

    # --- what is there ---------------------------------------------------------------------------

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Read the ledger."""
        return self.ledger.connection.execute(sql, values).fetchall()

    def incidents(self) -> list[str]:
        """The kinds of the incidents, the oldest first."""
        return [kind for (kind,) in self.rows("SELECT kind FROM incident ORDER BY no")]

    def reasons(self) -> dict[str, int]:
        """Why something was put aside, and how often."""
        return dict(self.rows("SELECT reason, sum(times) FROM quarantine GROUP BY reason"))


def receipt(directive: str, state: State, *, at: float = AT, role: str = "any") -> Record:
    """A receipt, of the store as a whole if not told otherwise."""
    data = encode_data(Receipt(directive=directive, role=role, state=state))
    return Record(id=new_id(), kind="receipt", at=at, data=Raw(data))


def original(kind: Any, data: bytes, seal: str, *, role: str = "any") -> Record:
    """What a device sends up that HQ has forgotten."""
    said = Original(kind=kind, role=role, data=Raw(data), seal=seal)
    return Record(id=new_id(), kind="original", at=AT, data=Raw(encode_data(said)))
