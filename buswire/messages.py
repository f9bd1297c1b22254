"""Every message and record of the bus, one typed definition each.

Owns names, types and limits; knows nothing of topics, of who may say what, or of how a message is
framed (`frame`). Unknown fields are ignored, so that a newer side can add some. What is unknown as
a whole (a message or record of a kind not listed here) is an `UnknownKindError`: kept aside and
reported.

`_at` is Unix time in seconds by the sender's clock; nothing is ever refused for its date.
"""

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Raw

from buswire.access import TokenHash
from buswire.cursors import START, Cursor, Number
from buswire.errors import WireError
from buswire.signing import KeyText, Seal, SignatureText
from buswire.states import Needs, State
from buswire.trust import KeyEntry

RECORD_BYTES_LIMIT = 64 * 1024
"""The most that the data of one record may take; more is refused where it is entered."""
DIRECTIVE_BYTES_LIMIT = 60 * 1024
"""The most for a directive, so that it still fits a record when a device sends it back."""
MESSAGE_BYTES_LIMIT = 256 * 1024
"""The most that one message may take on the wire, always below the broker's packet limit."""
BATCH_BYTES = 96 * 1024
"""How much data a writer puts into one message before it begins the next."""
BATCH_RECORDS = 500
"""How many records a writer puts into one message."""
UNSURE_LIMIT = 100
"""How much unsure work one hello asks about."""

Log = Literal["act", "bulk"]
"""A device's two logs: `act` for what somebody waits for, `bulk` for figures."""
LOGS: tuple[Log, ...] = get_args(Log)

Id = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
AnswerId = Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Line = Annotated[str, Meta(max_length=500)]
Text = Annotated[str, Meta(max_length=RECORD_BYTES_LIMIT)]
Code = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9_-]*\Z")]
DayMinute = Annotated[int, Meta(ge=0, le=1440)]
Part = Annotated[int, Meta(ge=1, le=2**31)]


class UnknownKindError(WireError):
    """A message or record of a kind that this version does not know."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of a log; its number follows from its place in the message."""

    id: Id
    kind: Annotated[str, Meta(min_length=1, max_length=40)]
    at: float
    data: Raw
    seal: Seal = ""
    """HQ's own signature on a directive or a cancel, which stays with the copy that is kept."""


class Work(msgspec.Struct, frozen=True, array_like=True):
    """One delivery as a device names it: its own store is understood."""

    directive: Id
    role: Name


# --- what HQ's records say ---------------------------------------------------------------------


class Audience(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who a directive was frozen for, so that a device's copy can put it back.

    `channels` is left empty when the list would be long; `mailboxes` and `digest` are always there.
    """

    mailboxes: Number
    digest: Annotated[str, Meta(max_length=128)]
    channels: list[str] = []


class Reason(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the reasons that HQ offers to a store that cannot."""

    code: Code
    text: Line
    texts: dict[Annotated[str, Meta(max_length=20)], Line] = {}
    """The same in other languages, by their tags, such as `zh`."""


class Reminder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a store's devices remind of what is still open; see `buswire.reminding`."""

    from_due_seconds: float
    """Of the first time; before the due time it is negative."""
    every_seconds: Annotated[float, Meta(ge=300)] | None = None
    """Again so much later, and again; only once where there is none."""
    times: Annotated[int, Meta(ge=1, le=1000)] = 100
    window: tuple[DayMinute, DayMinute] | None = None
    """Only between these minutes of the store's day; what falls outside waits until it begins."""


class Directive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What HQ asks of its stores."""

    id: Id
    title: Annotated[str, Meta(min_length=1, max_length=200)]
    body: Text = ""
    kind: Annotated[str, Meta(min_length=1, max_length=40)] = "notice"
    needs: Needs = Needs.READ
    priority: Literal["low", "normal", "high", "urgent"] = "normal"
    due: Annotated[str, Meta(max_length=40)] | None = None
    """A moment as `hqconsole.moments` writes it: store-local wall time, or absolute."""
    expires_at: float | None = None
    issued_at: float = 0.0
    issued_by: Line = ""
    audience: Audience | None = None
    forced_from: Annotated[str, Meta(max_length=40)] | None = None
    """A moment like `due`: from then on the device insists on it. Without one it may wait."""
    reasons: Annotated[list[Reason], Meta(max_length=50)] = []
    """What a store that cannot chooses from; a free text goes with any of them."""
    remind: Annotated[list[Reminder], Meta(max_length=10)] = []
    supersedes: AnswerId = ""
    """The directive that this one stands in for; HQ withdraws that one beside it."""
    undoes: AnswerId = ""
    """The withdrawn directive that this one asks to be undone."""


class Cancel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """HQ withdraws a directive, whatever role it was for. Wins also when it comes first."""

    directive: Id
    reason: Line = ""
    cancelled_at: float = 0.0
    cancelled_by: Line = ""
    superseded_by: AnswerId = ""
    """The directive that stands in for it, where there is one."""


class StateChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """HQ tells a mailbox's devices where a delivery stands: what another device said, or expiry."""

    directive: Id
    state: State
    changed_at: float = 0.0
    changed_by: Line = ""
    reason: Line = ""
    code: Annotated[str, Meta(max_length=40)] = ""


class Remind(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """HQ reminds a mailbox of what is still open there; moves nothing."""

    directive: Id
    text: Line = ""
    reminded_at: float = 0.0
    reminded_by: Line = ""


# --- what a device's records say ---------------------------------------------------------------


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A store's statement about one delivery."""

    directive: Id
    role: Name
    state: State
    by: Line = ""
    reason: Line = ""
    note: Text = ""
    code: Annotated[str, Meta(max_length=40)] = ""
    """With `cannot`: which of the directive's `reasons`."""


class Withdrawn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device has saved HQ's withdrawal of a directive, and says how far the work was there."""

    directive: Id
    role: Name
    was: State
    """`pending` where the directive never came, or was shown to nobody: it never will be."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer in a directive's thread."""

    directive: Id
    role: Name
    text: Annotated[str, Meta(min_length=1, max_length=RECORD_BYTES_LIMIT)]
    by: Line = ""


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that needs action, most often raised by a script; `fields` fit the kind."""

    alert: Annotated[str, Meta(min_length=1, max_length=40)]
    fields: dict[str, str | int | float | bool | None] = {}
    note: Text = ""
    by: Line = ""


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of a table of figures; the parts of a report are records that follow one another."""

    report: Annotated[str, Meta(min_length=1, max_length=128)]
    """Names the whole report; the hash of its content unless the caller chose a name."""
    name: Annotated[str, Meta(min_length=1, max_length=40)]
    part: Part
    parts: Part
    columns: list[Line]
    rows: list[list[str | int | float | bool | None]]


class Original(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record of HQ's that HQ has forgotten, sent up again as it was received."""

    kind: Literal["directive", "cancel"]
    role: Name
    data: Raw
    seal: Seal = ""
    """HQ takes back only what it sealed."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device kept something of HQ's aside because it could not use it."""

    what: Line
    record: str = ""
    detail: Text = ""


HQ_KINDS: dict[str, Any] = {
    "directive": Directive,
    "cancel": Cancel,
    "state": StateChange,
    "remind": Remind,
}
DEVICE_KINDS: dict[str, Any] = {
    "receipt": Receipt,
    "withdrawn": Withdrawn,
    "reply": Reply,
    "alert": Alert,
    "report": Report,
    "original": Original,
    "trouble": Trouble,
}


# --- messages ----------------------------------------------------------------------------------


class Message(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag=str.lower
):
    """Base of all messages; `kind` on the wire is the class name in small letters."""


class Records(Message, frozen=True):
    """Entries of one log, numbered on from `after`."""

    log: Annotated[str, Meta(min_length=1, max_length=200)]
    """A channel for HQ's records, `act` or `bulk` for a device's."""
    after: Cursor
    records: list[Record]


class Backlog(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far one of the device's logs is, as the device sees it."""

    acked: Cursor = START
    pending: Number = 0


class Hello(Message, frozen=True):
    """A device's only request: says where it stands, and asks for all that it lacks."""

    nonce: Id
    run: Id
    """The agent process that speaks; a `bye` counts only for the run it names."""
    install: Id
    """Drawn when the device's database was made: a wiped device has a new one."""
    start: Number = 0
    """How often an agent process has begun on this database; a replayed hello cannot raise it."""
    number: Number = 0
    """Counts the hellos of this run, so that one that comes again shows."""
    machine: Line = ""
    """What the machine calls itself, for people who look for two with one identity."""
    challenge: AnswerId = ""
    """What a nudge demanded to be said again."""
    hq_key: Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?\Z")] = ""
    """The newest key of HQ's that this device trusts."""
    reason: Line = ""
    version: Line = ""
    clock_at: float = 0.0
    roles: list[Name] = []
    """What the device was set up to serve; counts only until the roster knows the device."""
    set_version: Cursor = START
    cursors: dict[str, Cursor] = {}
    unsure: Annotated[list[Work], Meta(max_length=UNSURE_LIMIT)] = []
    uplink: dict[Log, Backlog] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What HQ knows of one piece of unsure work.

    `gone`: closed, in `state`. `open`: keep it. `unknown`: HQ forgot it, send the original up.
    `wait`: HQ forgot it and another device was asked for it; ask again.
    """

    work: Work
    verdict: Literal["gone", "open", "unknown", "wait"]
    state: State = State.REMOVED


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a device shows of its own store."""

    name: Line = ""
    region: str = ""
    timezone: Line = "UTC"


class Welcome(Message, frozen=True):
    """HQ's answer to one hello. Only the one to the device's latest nonce counts."""

    nonce: Id
    run: Id
    """The hub process that answers; a new run may stand on an older ledger."""
    at: float
    mode: Literal["replay", "snapshot", "later"]
    later_seconds: float = 0.0
    set_version: Cursor = START
    heads: dict[str, Cursor] = {}
    """The device's channels, all of them, with the head of each."""
    through: dict[str, Cursor] = {}
    """How far this answer's replay goes; where that is short of the head, ask again."""
    pages: int = 0
    """How many `snapshot` messages make up the snapshot."""
    answer: AnswerId = ""
    """Which answer this is: a hello that the network doubled is answered twice, and pages of two
    answers never make one snapshot."""
    uplink: dict[Log, Cursor] = {}
    answers: list[Answer] = []
    want: list[Id] = []
    """Directives of which HQ has receipts and no original: send them up if you have them."""
    forgot: bool = False
    """HQ's logs lack records that the device has read: send up the cancels that it holds."""
    lost: dict[Log, Number] = {}
    """Entries that may have died with the device's disk."""
    store: StoreFacts = StoreFacts()
    keys: list[KeyEntry] = []
    """The entries of HQ's chain of keys behind the one that the hello named."""


class SnapshotItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One open delivery of the device's mailboxes."""

    role: Name
    state: State
    data: Raw
    """The directive."""
    seal: Seal = ""


class Snapshot(Message, frozen=True):
    """A page of the answer to a hello that could not be replayed."""

    nonce: Id
    page: int
    pages: int
    items: list[SnapshotItem]
    answer: AnswerId = ""


class Ack(Message, frozen=True):
    """HQ has committed everything of this log up to and including the cursor."""

    run: Id
    log: Log
    cursor: Cursor


class Nudge(Message, frozen=True):
    """HQ asks the device to say hello."""

    reason: Line = ""
    challenge: AnswerId = ""
    """To be said again in that hello: only somebody who is there can."""


class Bye(Message, frozen=True):
    """The device goes; also its will, which only speeds up what the missing beat would show."""

    run: Id


class Heads(Message, frozen=True):
    """The heads of the `all` channels and of one region's."""

    run: Id
    heads: dict[str, Cursor]


class Hub(Message, frozen=True):
    """Whether HQ is there, and which run of it; retained, and with `up` false its will."""

    run: Id
    up: bool
    since_at: float = 0.0
    spread_seconds: float = 0.0
    """Devices that say hello because of this message spread it over so long."""
    heard: AnswerId = ""
    """The run of another hub that this answers: only one that is there now can know it."""


class Join(Message, frozen=True):
    """Who holds a join bundle asks to become the device; signed with the bundle's invite key."""

    nonce: Id
    device_key: KeyText
    """The public key that the device drew for itself."""
    token_hash: TokenHash
    """SHA-256 of the token that the device drew for itself."""
    proof: SignatureText
    """The device key's signature over `signing.proof_bytes`: the asker has that key."""
    machine: Line = ""
    version: Line = ""
    hq_key: Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?\Z")] = ""
    """The newest key of HQ's that the bundle names."""


class Joined(Message, frozen=True):
    """HQ's answer to a join. Kept, it proves whose key the device's key is."""

    nonce: Id
    verdict: Literal["accepted", "waiting", "refused"]
    """`waiting`: an operator is to compare the fingerprint first; ask again."""
    reason: Line = ""
    store: str = ""
    device: str = ""
    key: Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?\Z")] = ""
    """The id of the device key that was accepted."""
    certificate: Annotated[str, Meta(max_length=8192)] = ""
    """For TLS, where the broker wants one of its clients: PEM."""
    at: float = 0.0
    keys: list[KeyEntry] = []
    """The entries of HQ's chain of keys behind the one that the join named: a bundle may be older
    than a rotation."""


AnyMessage = Records | Hello | Welcome | Snapshot | Ack | Nudge | Bye | Heads | Hub | Join | Joined
MESSAGE_KINDS: dict[str, Any] = {kind.__name__.lower(): kind for kind in get_args(AnyMessage)}

_decoders: dict[str, msgspec.json.Decoder[Any]] = {}
_encoder = msgspec.json.Encoder()


def encode_data(data: msgspec.Struct) -> bytes:
    """The exact bytes of a record's data.

    Raises:
        WireError: More than `RECORD_BYTES_LIMIT`, or text that is no text (lone surrogates).
    """
    try:
        encoded = _encoder.encode(data)
    except UnicodeEncodeError as error:
        raise WireError(
            "the text has characters that are no text", hint="it was decoded wrongly; use UTF-8"
        ) from error
    if len(encoded) > RECORD_BYTES_LIMIT:
        raise WireError(
            f"the entry takes {len(encoded)} bytes and {RECORD_BYTES_LIMIT} are the most",
            hint="shorten it, or send it as a report",
        )
    return encoded


def decode_data(kind: str, data: bytes | Raw, kinds: dict[str, Any]) -> Any:
    """The typed data of a record.

    Args:
        kind: The record's kind.
        data: Its exact bytes.
        kinds: `HQ_KINDS` or `DEVICE_KINDS`, after who wrote it.

    Raises:
        UnknownKindError: The kind is not among them.
        WireError: The data does not fit its kind.
    """
    if kind not in kinds:
        raise UnknownKindError(f"unknown record kind {kind!r}")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kinds[kind])
    try:
        text = bytes(data)
        text.decode()  # the decoder passes over what it need not read, whatever is in it
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"a {kind} record does not fit the contract: {error}") from error
