"""Rules of the protocol, each removed from the code that ships, to see that the simulation minds.

Each function takes pytest's `MonkeyPatch` and removes one rule; its docstring is the rule.

Not here, because nothing goes wrong for good without them, another rule mends it: that only the
latest nonce counts and that an acknowledgement names its run (the next hello puts right what they
let in), that a gap makes the device ask and that a new hub publishes again (the beat, the heads and
the hello to a new run find it, later), that HQ commits before it acknowledges (what is acknowledged
is kept, and sent again from HQ's cursor), and that a record's id takes effect once (its cursor has
seen to it before). They make it quick, cheap, or safe when rows are not kept any more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from buswire import cursors, headoffice, states, uplink
from buswire.cursors import Cursor, Misfit
from buswire.device import DeviceMachine, Listen
from buswire.messages import Hello, Welcome
from buswire.topics import Channel
from hqconsole.ledger import arrivals, devices, directives, forgotten, organisation
from hqconsole.ledger.opening import ledger_from_bytes
from storeagent.core import AgentCore
from storeagent.effects import Effects
from storeagent.inbox import Inbox
from storeagent.outbox import Outbox
from tests.simulation import machine, templates

Patch = pytest.MonkeyPatch
Sabotage = Callable[[Patch], None]


def _replace(patch: Patch, original: object, replacement: object) -> None:
    """Put the replacement wherever a module of ours knows the original by name."""
    found = 0
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in {"buswire", "storeagent", "hqconsole"}:
            for key, value in list(vars(module).items()):
                if value is original:
                    patch.setattr(module, key, replacement)
                    found += 1
    assert found, f"nobody knows {original}"


# --- both ends: cursors and sets -----------------------------------------------------------------


def cursor_ids(patch: Patch) -> None:
    """A cursor's id is compared, not only its number."""

    class AnyId:
        def __eq__(self, _: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    class AnyLogs:
        def id_at(self, _channel: Channel, _seq: int) -> AnyId:
            return AnyId()

    def fit(cursor: Cursor, after: Cursor, ids: list[str]) -> int | Misfit:
        skip = cursor.seq - after.seq
        if skip < 0:
            return Misfit.GAP
        return Misfit.DUPLICATE if skip >= len(ids) else skip

    def judge(hello: Hello, **more: Any) -> object:
        return real(hello, **(more | {"logs": AnyLogs()}))

    real = headoffice.judge
    _replace(patch, headoffice.judge, judge)
    _replace(patch, headoffice.has_forgotten, lambda *_: False)
    _replace(patch, cursors.fit, fit)


def set_version(patch: Patch) -> None:
    """The version of the channel set is compared, not only the set."""

    def judge(hello: Hello, **more: Any) -> object:
        same = msgspec.structs.replace(hello, set_version=more["set_version"])
        return real_judge(same, **more)

    def on_welcome(self: DeviceMachine, message: Welcome, now: float) -> object:
        if message.mode == "replay":
            message = msgspec.structs.replace(message, set_version=self.set_version)
        return real(self, message, now)

    real, real_judge = DeviceMachine._on_welcome, headoffice.judge
    _replace(patch, headoffice.judge, judge)
    patch.setattr(DeviceMachine, "_on_welcome", on_welcome)


# --- the device ----------------------------------------------------------------------------------


def whole_snapshot(patch: Patch) -> None:
    """A snapshot is applied whole: cursors move to the heads only with all of its pages."""

    def finish(self: DeviceMachine, now: float) -> object:
        if self._welcome is not None and self._welcome.mode == "snapshot":
            pages = min(1, self._welcome.pages)
            self._welcome = msgspec.structs.replace(self._welcome, pages=pages)
        return real(self, now)

    real = DeviceMachine._finish_snapshot
    patch.setattr(DeviceMachine, "_finish_snapshot", finish)


def repeated_hello(patch: Patch) -> None:
    """A hello is repeated until it is answered in full."""

    def hello(self: DeviceMachine, now: float) -> object:
        effect = real(self, now)
        self._ask_at = None
        return effect

    real = DeviceMachine._hello
    patch.setattr(DeviceMachine, "_hello", hello)


def beat(patch: Patch) -> None:
    """A device says hello now and then though nothing calls for it."""
    patch.setattr(machine, "TIMING", replace(machine.TIMING, beat_seconds=1e9, ack_seconds=1e9))


def new_channels(patch: Patch) -> None:
    """A device that was told of other channels subscribes to them."""

    def finish(self: DeviceMachine, now: float) -> list[object]:
        return [effect for effect in real(self, now) if not isinstance(effect, Listen)]

    real: Callable[..., list[Any]] = DeviceMachine._finish_snapshot
    patch.setattr(DeviceMachine, "_finish_snapshot", finish)


def older_copy(patch: Patch) -> None:
    """A device whose outbox does not know HQ's cursor may be an older copy and is renewed."""

    def rebase(self: uplink.UplinkWriter, *arguments: Any) -> object:
        return real(self, *arguments)[0], True

    real = uplink.UplinkWriter.rebase
    patch.setattr(uplink.UplinkWriter, "rebase", rebase)


def rebased_uplink(patch: Patch) -> None:
    """Records go up numbered on from the cursor that HQ gave, whatever the device believed."""

    def rebase(self: uplink.UplinkWriter, _cursor: Cursor, _outbox: object) -> object:
        self._under_way.clear()
        return uplink.Settled(self.log, self.acked, self.position), True

    patch.setattr(uplink.UplinkWriter, "rebase", rebase)


def failed_commit(patch: Patch) -> None:
    """When a commit fails, the machine is thrown away and made anew from what is saved."""
    patch.setattr(AgentCore, "reload", lambda self: None)


def unsure_work(patch: Patch) -> None:
    """Open work that a snapshot does not name is asked about."""
    patch.setattr(Inbox, "mark_unsure_unless", lambda self, named: None)


def overtaken_snapshot(patch: Patch) -> None:
    """Records that overtook a snapshot take effect again when they come again behind it."""
    patch.setattr(Inbox, "forget_taken", lambda self, channel, *, after: None)


def own_statements(patch: Patch) -> None:
    """What the device said itself outranks a snapshot."""

    def take_item(self: Effects, item: Any, directive: Any) -> None:
        real(self, item, directive)
        delivery = self._inbox.delivery(directive.id, item.role)
        if delivery is not None and not delivery.closed_by_hq and item.state != "pending":
            delivery.state = item.state
            self._inbox.save(delivery)

    real = Effects._take_item
    patch.setattr(Effects, "_take_item", take_item)


def early_cancel(patch: Patch) -> None:
    """A withdrawal wins also when it comes before its directive."""

    def take_directive(self: Effects, *arguments: Any) -> None:
        with pytest.MonkeyPatch.context() as briefly:
            briefly.setattr(self._inbox, "cancel", lambda directive: None)
            real(self, *arguments)

    real = Effects._take_directive
    patch.setattr(Effects, "_take_directive", take_directive)


def early_change(patch: Patch) -> None:
    """A change of state that comes before its directive waits for it."""
    patch.setattr(Inbox, "hold_early", lambda self, *_: None)


def originals(patch: Patch) -> None:
    """A device sends HQ what HQ has forgotten."""
    patch.setattr(Effects, "_send_original", lambda self, delivery: False)


def cancels_back(patch: Patch) -> None:
    """A device sends HQ the withdrawals that HQ has forgotten."""
    patch.setattr(Effects, "_send_cancel_back", lambda self, directive: None)


def kept_rows(patch: Patch) -> None:
    """Acknowledged rows are kept, for a ledger that comes back from an older copy."""

    def prune(self: Outbox, log: Any, *, before: int = 0) -> int:
        self.limits = replace(self.limits, kept_rows=0, kept_bytes=0)
        return real(self, log, before=before)

    real = Outbox.prune
    patch.setattr(Outbox, "prune", prune)


# --- head office ---------------------------------------------------------------------------------


def unique_arrivals(patch: Patch) -> None:
    """HQ saves each record of a device once, by its id."""
    with ledger_from_bytes(templates.ledger_image()) as ledger:
        execute = ledger.connection.execute
        (sql,) = execute("SELECT sql FROM sqlite_schema WHERE name = 'arrival'").fetchone()
        execute("DROP TABLE arrival")
        execute(sql.replace(",\n    UNIQUE (device_no, id)", ""))
        image = ledger.serialize()

    def save_one(self: arrivals.Arrivals, device: Any, record: Any) -> int:
        return int(
            self._connection.execute(
                "INSERT INTO arrival (device_no, id, kind, said_at, received_at, data)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING no",
                (
                    device.no,
                    bytes.fromhex(record.id),
                    record.kind,
                    record.at,
                    self._at,
                    bytes(record.data),
                ),
            ).fetchone()[0]
        )

    patch.setattr("tests.simulation.world.ledger_image", lambda: image)
    patch.setattr(arrivals.Arrivals, "_save_one", save_one)


def waiting_receipts(patch: Patch) -> None:
    """What is said of a directive that HQ does not know is kept until it does."""

    def known(self: arrivals.Arrivals, directive: str, *_: object) -> int | None:
        return directives.number_of(self._connection, directive)

    patch.setattr(arrivals.Arrivals, "_known", known)


def told_siblings(patch: Patch) -> None:
    """What one device of a store said, HQ tells the others."""
    _replace(patch, directives.tell_siblings, lambda *_, **__: None)


def todays_cover(patch: Patch) -> None:
    """A withdrawal or expiry goes where the audience is under today's roster."""

    def cover(connection: Any, directive_no: int, _organisation: object) -> tuple[Channel, ...]:
        (data,) = connection.execute(
            "SELECT data FROM doc JOIN directive ON doc_no = doc.no WHERE directive.no = ?",
            (directive_no,),
        ).fetchone()
        named = msgspec.json.decode(data)["audience"].get("channels", [])
        return tuple(Channel.parse(one) for one in named)

    patch.setattr(directives, "_cover_of_audience", cover)


def raised_set_version(patch: Patch) -> None:
    """Every change of what a store's devices should hear raises its set version."""
    patch.setattr(organisation, "raise_set_version", lambda *_: None)


def late_statements(patch: Patch) -> None:
    """What was said in time and arrives after HQ closed the delivery counts."""

    def judge(state: Any, said: Any, **more: Any) -> object:
        return real(state, said, **(more | {"said_at": 1e18}))

    real = states.judge_receipt
    _replace(patch, states.judge_receipt, judge)


def reported_losses(patch: Patch) -> None:
    """HQ says what may have died with a device's disk."""
    _replace(patch, headoffice.entries_lost, lambda **_: 0)


def told_adopted(patch: Patch) -> None:
    """A mailbox that is counted into an adopted directive's audience is told of it."""

    def add(connection: Any, *arguments: Any, **more: Any) -> bool:
        with pytest.MonkeyPatch.context() as briefly:
            briefly.setattr(directives.channels, "append", lambda *_, **__: 0)
            return real(connection, *arguments, **more)

    real = directives.add_to_adopted
    _replace(patch, directives.add_to_adopted, add)


def wants_originals(patch: Patch) -> None:
    """HQ asks for the directives of which it has receipts only."""
    patch.setattr(forgotten, "wanted_of", lambda *_, **__: [])


def forgotten_cancels(patch: Patch) -> None:
    """HQ says that it has forgotten something, so that held withdrawals come back."""
    _replace(patch, headoffice.has_forgotten, lambda *_: False)


def endless_nudges(patch: Patch) -> None:
    """Nobody is nudged about a role that nobody serves."""

    def late(connection: Any, **_: object) -> list[devices.Waiting]:
        return [
            devices.Waiting(*row[:1], devices.Identity(row[1], row[2]))
            for row in connection.execute(
                "SELECT DISTINCT device.no, store.id, device.name FROM device"
                " JOIN store ON store.no = store_no JOIN mailbox USING (store_no)"
                " JOIN delivery ON mailbox_no = mailbox.no AND open = 1 AND state = 0"
                " WHERE online = 1"
            )
        ]

    _replace(patch, devices.there_without_receipt, late)
