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

from buswire import cursors, frame, headoffice, signing, states, trust, uplink
from buswire.cursors import Cursor, Misfit
from buswire.device import DeviceMachine, Listen
from buswire.messages import Hello, Welcome
from buswire.topics import Channel
from hqconsole import gate, hellos, notary, runs
from hqconsole.ledger import (
    adoption,
    arrivals,
    devices,
    directives,
    forgotten,
    organisation,
    reach,
)
from hqconsole.ledger.opening import ledger_from_bytes
from storeagent import hearing
from storeagent.core import AgentCore
from storeagent.effects import Effects
from storeagent.inbox import Inbox
from storeagent.outbox import Outbox
from storeagent.telling import Telling
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
    patch.setattr(Telling, "original", lambda self, delivery: False)


def cancels_back(patch: Patch) -> None:
    """A device sends HQ the withdrawals that HQ has forgotten."""
    patch.setattr(Telling, "cancel_back", lambda self, directive: None)


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

    def save_one(self: arrivals.Arrivals, device: Any, record: Any, data: bytes, *_: object) -> int:
        return int(
            self._connection.execute(
                "INSERT INTO arrival (device_no, id, kind, said_at, received_at, data)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING no",
                (device.no, bytes.fromhex(record.id), record.kind, record.at, self._at, data),
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

    patch.setattr(reach, "cover_of_audience", cover)


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
            briefly.setattr(adoption.channels, "append", lambda *_, **__: 0)
            return real(connection, *arguments, **more)

    real = adoption.count_in
    _replace(patch, adoption.count_in, add)


def left_where_it_was(patch: Patch) -> None:
    """A hub goes on with the waves that the one before it began."""
    patch.setattr("hqconsole.attending.due.unfinished", lambda _: [])
    patch.setattr("hqconsole.attending.due.to_look_at", lambda *_: [])


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
                " JOIN delivery ON mailbox_no = mailbox.no AND open = 1 AND delivery.state = 0"
                " WHERE online = 1"
            )
        ]

    _replace(patch, devices.there_without_receipt, late)


# --- who may say what ----------------------------------------------------------------------------


def _unverified(kind: str) -> Sabotage:
    """Make the sabotage that believes messages of one kind whoever signed them."""

    def sabotage(patch: Patch) -> None:
        def verify(envelope: frame.Envelope, topic: str, key_of: frame.KeyOf) -> None:
            if f'"kind":"{kind}"'.encode() not in envelope.text[:40]:
                real(envelope, topic, key_of)

        real = frame.verify
        patch.setattr(frame, "verify", verify)

    sabotage.__name__ = f"unverified_{kind}"
    sabotage.__doc__ = f"A {kind} counts only if it is signed with a key that counts."
    return sabotage


UNVERIFIED = tuple(
    _unverified(kind)
    for kind in ("hello", "records", "bye", "welcome", "snapshot", "ack", "nudge", "heads", "hub")
)


def bound_topic(patch: Patch) -> None:
    """What was signed for one topic is void on every other."""

    def message_bytes(_topic: str, text: bytes) -> bytes:
        return text

    _replace(patch, signing.message_bytes, message_bytes)


def followed_chain(patch: Patch) -> None:
    """A device follows the chain of HQ's keys."""
    patch.setattr(hearing, "_followed", lambda trusted, _entries: trusted)


def signed_chain(patch: Patch) -> None:
    """An entry of the chain counts only if a key signed it that was trusted before."""

    def step(self: trust.Trust, entry: trust.KeyEntry) -> trust.Trust:
        kept = self.kept
        if (entry.epoch, entry.number) <= (kept.epoch, kept.number):
            return self
        return trust.Trust(
            trust.Trusted(
                recovery=kept.recovery,
                epoch=entry.epoch,
                number=entry.number,
                keys=[*kept.keys[-1:], entry.key] if entry.epoch == kept.epoch else [entry.key],
            )
        )

    patch.setattr(trust.Trust, "_step", step)


def recovery_ends_keys(patch: Patch) -> None:
    """After a recovery, the keys of before are worthless."""

    def step(self: trust.Trust, entry: trust.KeyEntry) -> trust.Trust:
        after = real(self, entry)
        if after is self or entry.epoch == self.kept.epoch:
            return after
        keys = [*self.kept.keys, *after.kept.keys]
        return trust.Trust(msgspec.structs.replace(after.kept, keys=keys))

    real = trust.Trust._step
    patch.setattr(trust.Trust, "_step", step)


def keys_before_proof(patch: Patch) -> None:
    """A device is told HQ's keys before it has to believe a nudge that a new one signed."""

    def later(self: hellos.Hellos, batch: Any, device: Any, hello: Hello, seconds: float) -> None:
        if seconds != hellos._UNPROVED_SECONDS:
            real(self, batch, device, hello, seconds)

    real = hellos.Hellos._later
    patch.setattr(hellos.Hellos, "_later", later)


def device_keys(patch: Patch) -> None:
    """Only the present key of a device counts, not those that it had before."""

    def verify(
        connection: Any, device: Any, key: Any, envelope: frame.Envelope, topic: str
    ) -> None:
        keys = {
            key_id: signing.PublicKey(public)
            for key_id, public in connection.execute(
                "SELECT key_id, public FROM device_key WHERE device_no = ?", (device.no,)
            )
        }
        frame.verify(envelope, topic, keys.get)

    patch.setattr(gate, "_verify", verify)


def revoked_devices(patch: Patch) -> None:
    """A revoked device is not heard."""

    def find(*arguments: Any) -> Any:
        device = real(*arguments)
        return device and device._replace(state="active")

    real = devices.find
    _replace(patch, devices.find, find)


def own_roles(patch: Patch) -> None:
    """A device answers for the roles that it serves, or served."""
    patch.setattr(devices.Device, "may_speak_for", lambda self, role: True)


def sealed_originals(patch: Patch) -> None:
    """HQ takes back only what it sealed."""
    patch.setattr(notary.Notary, "check_seal", lambda *_: None)


def stolen_seals(patch: Patch) -> None:
    """What was sealed with a stolen key does not count."""

    def check(self: notary.Notary, kind: str, data: bytes, found: str) -> None:
        for entry in self._keys.entries:
            key = signing.PublicKey.parse(entry.key)
            if key.id == signing.key_of_seal(found):
                signing.check_seal(key, kind, data, found)
                return
        real(self, kind, data, found)

    real = notary.Notary.check_seal
    patch.setattr(notary.Notary, "check_seal", check)


def kept_seals(patch: Patch) -> None:
    """A device keeps the seal with its copy of a directive, and sends it back with it."""

    def enqueue(self: Telling, kind: str, data: Any, **more: Any) -> Any:
        if kind == "original":
            data = msgspec.structs.replace(data, seal="")
        return real(self, kind, data, **more)

    real = Telling._enqueue
    patch.setattr(Telling, "_enqueue", enqueue)


def hello_numbers(patch: Patch) -> None:
    """A hello that was said before is dropped."""

    def judge(*arguments: Any, **more: Any) -> runs.Ruling:
        ruling = real(*arguments, **more)
        return runs.Ruling(runs.Verdict.TAKE) if ruling.verdict is runs.Verdict.REPEAT else ruling

    real = runs.judge_run
    _replace(patch, runs.judge_run, judge)


def challenges(patch: Patch) -> None:
    """A run that may be of old proves that it is there before it counts."""

    def judge(hello: Hello, known: Any, present: str, *, proved: bool) -> runs.Ruling:
        ruling = real(hello, known, present, proved=proved)
        if ruling.verdict is not runs.Verdict.PROVE:
            return ruling
        return runs.Ruling(runs.Verdict.TAKE, came_back=hello.run in known)

    real = runs.judge_run
    _replace(patch, runs.judge_run, judge)


def told_clones(patch: Patch) -> None:
    """Two machines of one identity are told of."""
    _replace(patch, runs.alternates_with, lambda *_: None)


def one_comeback(patch: Patch) -> None:
    """A machine that was put back whole is no clone: it takes two to take turns."""

    def alternates_with(known: Any, present: str, ruling: runs.Ruling) -> Any:
        return known.get(present) if ruling.came_back else None

    _replace(patch, runs.alternates_with, alternates_with)
