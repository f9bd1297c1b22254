"""Walks the whole ledger and finds the first thing in it that does not fit.

Owns what it means for a ledger to be whole. Everything that somebody signed is checked against the
signature, and everything that HQ derived from it against what was signed:

- HQ's keys are a chain from the recovery key on, and each device's key was let in by one of them.
- Each kept message was signed by the key it names, for its device's own topic.
- Each arrival is a record of its message, word by word, and each record has its arrival.
- Each device's logs are dense from 1 to HQ's cursor, one id for each number.
- Each directive and cancel bears a seal of HQ's, its row says what the sealed document says, and
  its deliveries are the audience that the document names.
- Each delivery is in a state that HQ gave it or that a receipt of its own mailbox said, and behind
  none of them; each answer is filed under what it answers.
- HQ's own channels are dense, and every document has the row that it is the text of.
- The audit is a chain, and has the sum of each archive.
- What left for an archive is there: the same of all that it holds, with the audience that the
  sealed document names. Both halves of a message that is in two places are then looked at.

Reads only, in the caller's one read transaction; memory does not grow with messages.
"""

import sqlite3
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

import msgspec

from buswire import frame, signing
from buswire.errors import WireError
from buswire.messages import HQ_KINDS, Joined, Receipt, decode_data
from buswire.signing import PublicKey
from buswire.states import CLOSED_BY_HQ, Needs, State, is_open
from buswire.topics import Identity
from buswire.trust import KeyEntry, Trust, Trusted
from hqconsole.audience import digest
from hqconsole.ledger import archived, audit
from hqconsole.ledger.deliveries import STATE_OF
from hqconsole.ledger.verification_answers import Answers
from hqconsole.ledger.verification_archives import check_archives, known_archived, sum_in
from hqconsole.ledger.verification_channels import check_channels
from hqconsole.ledger.verification_context import (
    Advance,
    Context,
    DeviceKey,
    MisfitError,
    Problem,
    Report,
    verifies,
)
from hqconsole.ledger.verification_logs import Logs
from hqconsole.lifecycle import LIVE, DirectiveState

STATES = (
    "SELECT delivery.directive_no, delivery.mailbox_no, delivery.state, arrival_no,"
    " arrival.device_no, arrival.kind, message_no, data_at, data_bytes, data FROM delivery"
    " LEFT JOIN arrival ON arrival.no = arrival_no"
    " WHERE arrival_no IS NOT NULL OR delivery.state BETWEEN 1 AND 5 ORDER BY arrival_no"
)

_receipts = msgspec.json.Decoder(Receipt)


class _Mailbox(NamedTuple):
    store_no: int
    store: str
    role: str


def size(connection: sqlite3.Connection) -> int:
    """How many steps `verify` or `verify_archive` will take, for a progress bar."""
    tables = ("audit", "device_key", "message", "arrival", "directive", "delivery")
    counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
    return sum(connection.execute(f"SELECT {counts}").fetchone())


def verify(
    connection: sqlite3.Connection,
    *,
    entries: Sequence[KeyEntry],
    recovery: str,
    stolen: Container[str] = frozenset(),
    advance: Advance = lambda _: None,
) -> Report:
    """Walk the ledger up to the first thing that does not fit.

    Args:
        connection: In a read transaction, so that everything is of one moment.
        entries: HQ's chain of keys, the oldest first.
        recovery: The public recovery key, as text.
        stolen: Ids of keys that HQ itself declared stolen: their seals prove nothing.
        advance: Told how many of the `size` steps were taken.
    """
    return _walked(
        Context(connection, Report(), advance),
        lambda walk: walk.run(entries, recovery, stolen),
    )


def verify_archive(
    connection: sqlite3.Connection,
    *,
    entries: Sequence[KeyEntry],
    recovery: str,
    stolen: Container[str] = frozenset(),
    advance: Advance = lambda _: None,
) -> Report:
    """Walk an archive, as `verify` does a ledger; its sum is the caller's to compare.

    What only a whole ledger can show is not asked of it: that logs are dense, and the audit.
    """
    context = Context(connection, Report(), advance)
    context.is_archive = True
    return _walked(context, lambda walk: walk.run_archive(entries, recovery, stolen))


def _walked(context: Context, run: Callable[["_Walk"], None]) -> Report:
    report = context.report
    try:
        run(_Walk(context))
    except MisfitError as misfit:
        report.problem = misfit.problem
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        # SQLite keeps a text where bytes belong, if somebody writes one there.
        report.problem = Problem(
            "form",
            "a row of the ledger",
            f"it is not of its form, which only altering does: {error}",
        )
    return report


class _Walk:
    """One walk, subject by subject."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._connection = context.connection
        self._counts = context.counts
        self._audited: set[tuple[str, str]] = set()

    def run(self, entries: Sequence[KeyEntry], recovery: str, stolen: Container[str]) -> None:
        self._context.stolen = stolen
        self._context.archived = known_archived(self._connection)
        self._check_audit()
        self._check_hq_keys(entries, recovery)
        self._check_devices()
        logs = Logs(self._context)
        logs.check_messages()
        logs.check_heads()
        self._check_cancels()
        self._check_directives()
        self._check_states()
        Answers(self._context, _Texts(self._connection).data).check()
        check_channels(self._connection)
        check_archives(self._context, self._audited)
        self._context.flush()

    def run_archive(
        self, entries: Sequence[KeyEntry], recovery: str, stolen: Container[str]
    ) -> None:
        self._context.stolen = stolen
        self._check_hq_keys(entries, recovery)
        self._check_devices()
        Logs(self._context).check_messages()
        self._check_cancels()
        self._check_directives()
        self._check_states()
        Answers(self._context, _Texts(self._connection).data).check()
        self._context.flush()

    # --- who ---------------------------------------------------------------------------------

    def _check_audit(self) -> None:
        before = ""
        for row in audit.rows(self._connection):
            if row.hash != row.expected_hash(before):
                raise MisfitError(
                    "audit",
                    f"audit row {row.no} ({row.action} by {row.operator})",
                    "its hash does not follow from the row before it and its own content: a row"
                    " was altered, taken out or put in here",
                )
            before = row.hash
            if found := sum_in(row.action, row.detail):
                self._audited.add(found)
            self._counts["audit_rows"] += 1
            self._context.step()
        self._context.report.audit_head = before

    def _check_hq_keys(self, entries: Sequence[KeyEntry], recovery: str) -> None:
        trust = Trust(Trusted(recovery=recovery))
        for entry in entries:
            followed = trust.follow([entry])
            if followed.refused or followed.trust is trust:
                raise MisfitError(
                    "hq key",
                    f"entry {entry.epoch}.{entry.number} of HQ's chain of keys",
                    "no key that was trusted before it has signed it: devices would not follow",
                )
            trust = followed.trust
            key = PublicKey.parse(entry.key)
            self._context.hq_keys[key.id] = key
            self._counts["hq_keys"] += 1

    def _check_devices(self) -> None:
        self._context.devices = {
            no: (Identity(store, name), store_no)
            for no, store, name, store_no in self._connection.execute(
                "SELECT device.no, store.id, device.name, store_no FROM device"
                " JOIN store ON store.no = store_no"
            )
        }
        self._counts["devices"] = len(self._context.devices)
        for no, device_no, key_id, public, topic, text, by, signature in self._connection.execute(
            "SELECT no, device_no, key_id, public, joined_topic, joined_text, joined_key,"
            " joined_signature FROM device_key ORDER BY no"
        ):
            what = f"key {key_id[:8]} of {self._context.name(device_no)}"
            try:
                key = PublicKey(bytes(public))
            except WireError:
                raise MisfitError("device key", what, "it is no key") from None
            if key.id != key_id:
                raise MisfitError("device key", what, "its id is not the one of the key")
            if text is not None:
                self._check_joined(what, device_no, key_id, (topic, bytes(text), by, signature))
            self._counts["unproved"] += text is None
            self._context.device_keys[no] = DeviceKey(device_no, key, text is not None)
            self._counts["device_keys"] += 1
            self._context.step()
        odd = self._connection.execute(
            "SELECT device.no FROM device LEFT JOIN device_key ON device_key.no = key_no"
            " WHERE key_no IS NOT NULL AND device_key.device_no IS NOT device.no"
            " OR state = 'active' AND key_no IS NULL LIMIT 1"
        ).fetchone()
        if odd is not None:
            raise MisfitError(
                "device key",
                f"device {self._context.name(odd[0])}",
                "the key that counts for it is not one that it joined with",
            )

    def _check_joined(
        self, what: str, device_no: int, key_id: str, joined: tuple[str, bytes, str, str]
    ) -> None:
        """HQ's word that this is that device's key."""
        topic, text, by, signature = joined
        identity = (
            self._context.devices[device_no][0]
            if device_no in self._context.devices
            else Identity("", "")
        )
        key = self._context.hq_key(what, by)
        if not verifies(key, signature, signing.message_bytes(topic, text)):
            raise MisfitError(
                "hq signature", what, "HQ's word that it was let in is altered, or is not HQ's"
            )
        try:
            said = frame.decode_text(text)
        except WireError as error:
            raise MisfitError("device key", what, f"HQ's word for it: {error}") from None
        fits = (
            isinstance(said, Joined)
            and said.verdict == "accepted"
            and (said.store, said.device, said.key) == (*identity, key_id)
        )
        if not fits:
            raise MisfitError(
                "device key", what, "what HQ signed about it is about another device or key"
            )

    # --- what HQ said ------------------------------------------------------------------------

    def _check_seal(self, what: str, kind: str, data: bytes, seal: str | None) -> None:
        if seal is None:
            self._counts["unsealed"] += 1
            return
        key = self._context.hq_key(what, signing.key_of_seal(seal))
        if key.id in self._context.stolen:
            self._counts["stolen_seals"] += 1
        try:
            signing.check_seal(key, kind, data, seal)
        except WireError:
            raise MisfitError(
                "seal", what, "HQ's seal does not fit it: it was altered, or is not HQ's"
            ) from None

    def _check_directives(self) -> None:
        mailboxes = {
            no: (store, role)
            for no, store, role in self._connection.execute(
                "SELECT mailbox.no, store.id, role FROM mailbox JOIN store ON store.no = store_no"
            )
        }
        for row in self._connection.execute(
            "SELECT directive.no, id, state, adopted_at, mailboxes, digest, doc.kind, data, seal,"
            " title, directive.kind, needs, priority, due, expires_at, issued_at, issued_by"
            " FROM directive LEFT JOIN doc ON doc.no = doc_no WHERE issued_at > 0"
            " ORDER BY directive.no"
        ).fetchall():
            no, directive_id, state, adopted_at, count, fingerprint, kind, data, seal, *columns = (
                row
            )
            what = f"directive {directive_id[:8]}"
            document = _document(what, kind, data, "directive")
            self._check_seal(what, "directive", bytes(data), seal)
            said = [document.title, document.kind, document.needs, document.priority]
            said += [document.due, document.expires_at, document.issued_at, document.issued_by]
            audience = document.audience
            frozen = (0, "") if audience is None else (audience.mailboxes, audience.digest)
            if (document.id, *frozen, *said) != (directive_id, count, fingerprint, *columns):
                raise MisfitError(
                    "directive", what, "its row does not say what the sealed document says"
                )
            rows = self._connection.execute(
                "SELECT mailbox_no, state, open, joined_at FROM delivery WHERE directive_no = ?",
                (no,),
            ).fetchall()
            ends = archived.ends(self._connection, no)
            there = [mailboxes.get(mailbox_no, ("", str(mailbox_no))) for mailbox_no, *_ in rows]
            if rows and directive_id in self._context.archived:
                raise MisfitError("archive", what, "it is called archived and has deliveries here")
            _check_closing(what, state, document.needs, rows, there)
            meant = [one for one, row in zip(there, rows, strict=True) if row[3] is None]
            waiting = [*self._planned(no), *(end.mailbox_no for end in ends if not end.joined)]
            meant += [mailboxes.get(number, ("", str(number))) for number in waiting]
            # Of an adopted one the audience is put together by and by.
            incomplete = adopted_at is not None and len(meant) != count
            if not incomplete and digest(meant) != fingerprint:
                raise MisfitError(
                    "audience",
                    what,
                    f"it was frozen for {count} mailboxes, and the {len(meant)} that it was sent to"
                    " or waits for are not these: some were taken out or put in",
                )
            self._counts["directives"] += 1
            self._counts["adopted"] += adopted_at is not None
            self._counts["deliveries"] += len(there)
            self._context.step(1 + len(there))

    def _planned(self, directive_no: int) -> list[int]:
        return [
            number
            for (number,) in self._connection.execute(
                "SELECT mailbox_no FROM planned WHERE directive_no = ?", (directive_no,)
            )
        ]

    def _check_cancels(self) -> None:
        for directive_id, kind, data, seal in self._connection.execute(
            "SELECT directive_id, doc.kind, data, seal FROM cancel LEFT JOIN doc ON doc.no = doc_no"
        ):
            what = f"the withdrawal of {directive_id[:8]}"
            document = _document(what, kind, data, "cancel")
            self._check_seal(what, "cancel", bytes(data), seal)
            if document.directive != directive_id:
                raise MisfitError("cancel", what, "what HQ sealed is about another directive")
            self._counts["cancels"] += 1
        odd = self._connection.execute(
            "SELECT id FROM directive WHERE (state IN ('cancelled', 'superseded'))"
            " <> EXISTS (SELECT 1 FROM cancel WHERE directive_id = directive.id) LIMIT 1"
        ).fetchone()
        if odd is not None:
            raise MisfitError(
                "cancel", f"directive {odd[0][:8]}", "its state and its withdrawal do not agree"
            )

    # --- where deliveries stand --------------------------------------------------------------

    def _check_states(self) -> None:
        ids = dict(self._connection.execute("SELECT no, id FROM directive").fetchall())
        mailboxes = {
            no: _Mailbox(store_no, store, role)
            for no, store_no, store, role in self._connection.execute(
                "SELECT mailbox.no, store_no, store.id, role FROM mailbox"
                " JOIN store ON store.no = store_no"
            )
        }
        texts = _Texts(self._connection)
        for row in self._connection.execute(STATES):
            directive_no, mailbox_no, code, arrival_no, device_no, kind, *place = row
            mailbox = mailboxes.get(mailbox_no, _Mailbox(0, "?", "?"))
            what = f"directive {ids.get(directive_no, '?')[:8]} at {mailbox.store}/{mailbox.role}"
            state = STATE_OF[code]
            if arrival_no is None or kind != "receipt":
                raise MisfitError(
                    "state", what, f"it is {state} and no receipt is kept that says so"
                )
            said = _receipt(texts.data(*place))
            fits = (
                said is not None
                and device_no in self._context.devices
                and self._context.devices[device_no][1] == mailbox.store_no
                and said.role == mailbox.role
                and said.directive == ids.get(directive_no)
                and (state in CLOSED_BY_HQ or said.state == state)
            )
            if not fits:
                heard = State.PENDING if said is None else said.state
                raise MisfitError(
                    "state",
                    what,
                    f"it is {state}, and the receipt that it refers to (arrival {arrival_no},"
                    f" {heard}, of {self._context.name(device_no)}) does not say so of it",
                )
            self._context.step(0)


class _Texts:
    """What arrivals said, with one message's text at hand."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._no: int | None = None
        self._text = b""

    def data(self, message_no: int | None, at: int, length: int, data: bytes) -> bytes:
        if message_no is None:
            return bytes(data)
        if message_no != self._no:
            row = self._connection.execute(
                "SELECT text FROM message WHERE no = ?", (message_no,)
            ).fetchone()
            self._no, self._text = message_no, b"" if row is None else bytes(row[0])
        return self._text[at : at + length]


def _document(what: str, kind: str | None, data: Any, wanted: str) -> Any:
    if kind != wanted:
        found = "not there" if kind is None else f"a {kind}"
        raise MisfitError(wanted, what, f"its document is {found}")
    try:
        return decode_data(wanted, bytes(data), HQ_KINDS)
    except WireError as error:
        raise MisfitError(wanted, what, str(error)) from None


def _check_closing(
    what: str,
    directive_state: str,
    needs: Needs,
    deliveries: Sequence[Sequence[Any]],
    mailboxes: Sequence[tuple[str, str]],
) -> None:
    """HQ closed a delivery only with its directive, and counts as open what is open."""
    live = directive_state in LIVE
    for (_, code, marked_open, *_), (store, role) in zip(deliveries, mailboxes, strict=True):
        state = STATE_OF[code]
        may_be_open = live and is_open(state, needs)
        kept_open = live or directive_state == DirectiveState.COMPLETED
        closed_for_nothing = state in {State.EXPIRED, State.CANCELLED} and kept_open
        if bool(marked_open) != may_be_open or closed_for_nothing:
            raise MisfitError(
                "state",
                f"{what} at {store}/{role}",
                f"it is {state} and marked {'open' if marked_open else 'closed'}, which does not"
                f" follow for a directive that is {directive_state}",
            )


def _receipt(data: bytes) -> Receipt | None:
    try:
        return _receipts.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
