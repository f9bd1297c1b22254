"""What must be the same at head office and in the stores when all is quiet.

Each function gives the disagreements that it finds, in words.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from buswire.states import CLOSED_BY_HQ, STORE_RANK, State
from buswire.topics import ANY_ROLE, Channel, Identity, channels_of
from hqconsole.ledger.deliveries import STATE_OF
from tests.simulation.captured import STOLEN

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

_HELD = 40
"""More things than this held in memory, at rest and in so small a world, are a leak."""


def disagreements(world: World) -> list[str]:
    """Everything that does not agree."""
    found = [*_logs_of_hq(world), *_what_is_aside(world), *_memory_of_hq(world)]
    for machine in world.machines:
        found += [f"{machine.identity}: {what}" for what in _device(world, machine)]
    return found


def _logs_of_hq(world: World) -> Iterator[str]:
    connection = world.hq.ledger.connection
    for name, head, head_id, count, most, last_id in connection.execute(
        "SELECT name, head_seq, head_id, count(seq), max(seq),"
        " (SELECT id FROM channel_log WHERE channel_no = channel.no AND seq = head_seq)"
        " FROM channel LEFT JOIN channel_log ON channel_no = channel.no GROUP BY channel.no"
    ):
        if not head == count == most or last_id.hex() != head_id:
            yield f"the log {name} has {count} records up to {most}, its head is {head}"
    ids = Counter(row[0] for row in connection.execute("SELECT id FROM channel_log"))
    if any(count > 1 for count in ids.values()):
        yield "a record id is there twice"


def _what_is_aside(world: World) -> Iterator[str]:
    connection = world.hq.ledger.connection
    for source, reason in connection.execute("SELECT source, reason FROM quarantine"):
        if not _is_refused_rightly(world, source, reason):
            yield f"HQ put aside from {source}: {reason}"
    for table in ("waiting", "asked"):
        rows = connection.execute(f"SELECT directive_id FROM {table}").fetchall()
        left = [row[0] for row in rows]
        known = world.journal.directives
        alive = [one for one in left if one in known and not known[one].died]
        if alive:
            yield f"HQ still has {len(alive)} rows in {table}"
    for identity, detail in connection.execute(
        "SELECT device.name, detail FROM incident JOIN device ON device.no = device_no"
        " WHERE kind = 'device trouble'"
    ):
        what = json.loads(detail)["what"].removeprefix("refused: ")
        if not _is_ignored_rightly(world, what):
            yield f"{identity} told HQ of {what}"


_WRONG_SEALS = ("without a seal", "whose seal is not of the key", "with a seal that is not HQ's")
_REFUSED = (
    "signed with another key",
    "signed with a key that the device had before",
    "a message on this topic that the key",
    "a message without a signature",
    "not a message of storebus",
    "not a signature",
    "a message of version",
)
_NOT_TAKEN_OF_THIEVES = (
    *_REFUSED,
    *(f"a {kind} {wrong}" for kind in ("directive", "cancel") for wrong in _WRONG_SEALS),
    "the device is revoked",
)


def _is_refused_rightly(world: World, source: str, reason: str) -> bool:
    """Whether HQ may have heard such a thing in this world."""
    if "is not in the roster" in reason:
        return True
    if source.endswith(STOLEN):
        return reason.startswith(_NOT_TAKEN_OF_THIEVES)
    if world.captured is not None and reason.startswith(_REFUSED):
        return True
    if world.journal.ledgers_put_back and reason in {
        "a device that nobody added",
        "signed with another key than the device's",
    }:
        return True  # it joined after that copy was made
    return max(world.journal.joinings.values()) > 1 and reason in {
        "signed with a key that the device had before",
        "the device is revoked",
    }


def _is_ignored_rightly(world: World, what: str) -> bool:
    """Whether a device may have heard such a thing in this world."""
    if what == "a message signed with a key that is not trusted here":
        # Two rotations within a minute are too quick for who is asked to wait in between.
        quick = len(world.keys.entries) > 2
        return world.captured is not None or world.keys.recoveries > 0 or quick
    return world.captured is not None and what in {
        "a message without a signature that fits",
        "what is no message of this version",
    }


def _memory_of_hq(world: World) -> Iterator[str]:
    if world.hq.desk is None:
        yield "the hub does not run"
        return
    for name, value in vars(world.hq.desk).items():
        if isinstance(value, dict | set | list | deque) and len(value) > _HELD:
            yield f"the hub holds {len(value)} things in {name}"


def _device(world: World, machine: Machine) -> Iterator[str]:
    if machine.core is None or machine.session is None:
        yield "is not back"
        return
    disk = machine.disk.database.connection
    for what, source in disk.execute("SELECT what, source FROM aside"):
        if not _is_ignored_rightly(world, what):
            yield f"put aside from {source}: {what}"
    for log in ("act", "bulk"):
        count, least, most = disk.execute(
            f"SELECT count(*), min(position), max(position) FROM {log}"
        ).fetchone()
        if count and most - least + 1 != count:
            yield f"the log {log} has {count} rows from {least} to {most}"
        pending = machine.core.outbox.pending(log)
        if pending:
            yield f"{pending} entries of {log} are unacknowledged"
    unsure = machine.core.inbox.unsure_count()
    if unsure:
        yield f"{unsure} deliveries are unsure"
    protocol = machine.core._machine
    if any(writer._under_way for writer in protocol.writers.values()) or protocol._pages:
        yield "its machine holds things at rest"
    yield from _place(world, machine)


def _place(world: World, machine: Machine) -> Iterator[str]:
    store, device = machine.identity
    row = world.hq.ledger.connection.execute(
        "SELECT device.no, device.roles, store.roles, region, set_seq, set_id, online, install"
        " FROM device JOIN store ON store.no = store_no WHERE store.id = ? AND device.name = ?",
        (store, device),
    ).fetchone()
    if row is None:
        yield "HQ does not know it"
        return
    no, assigned, of_store, region, set_seq, set_id, online, install = row
    present = json.loads(of_store)
    roles = present if assigned is None else [r for r in present if r in json.loads(assigned)]
    disk = machine.disk.database.connection
    if not online:
        yield "HQ takes it as gone"
    if disk.execute("SELECT value FROM meta WHERE key = 'install'").fetchone()[0] != install:
        yield "HQ takes it for another install"
    version = disk.execute("SELECT value FROM meta WHERE key = 'set_version'").fetchone()
    if version is None or json.loads(version[0]) != [set_seq, set_id]:
        yield f"its set version is {version}, HQ's [{set_seq}, {set_id[:6]}]"
    heads = {
        name: (seq, id_)
        for name, seq, id_ in world.hq.ledger.connection.execute(
            "SELECT name, head_seq, head_id FROM channel"
        )
    }
    wanted = {
        str(channel): heads.get(str(channel), (0, ""))
        for channel in channels_of(store, region, roles)
    }
    cursors = {n: (s, i) for n, s, i in disk.execute("SELECT channel, seq, id FROM cursor")}
    if cursors != wanted:
        wrong = [n for n in wanted.keys() | cursors.keys() if cursors.get(n) != wanted.get(n)]
        yield f"its cursors differ in {sorted(wrong)}"
    listens = machine.session.filters if machine.session is not None else frozenset()
    if not {world.topics.down(Channel.parse(name)) for name in wanted} <= listens:
        yield "it does not listen to all of its channels"
    for log, seq, id_ in world.hq.ledger.connection.execute(
        "SELECT log, seq, id FROM uplink WHERE device_no = ?", (no,)
    ):
        mine = disk.execute("SELECT seq, id FROM acked WHERE log = ?", (log,)).fetchone()
        if mine != (seq, id_):
            yield f"HQ's cursor in {log} is {seq}, it believes {mine[0]}"
    yield from _work(world, machine.identity, disk, roles)


def _work(world: World, identity: Identity, disk: object, roles: list[str]) -> Iterator[str]:
    """The list of open work, and where each delivery stands."""
    at_hq = {
        (directive, role): (STATE_OF[code], bool(is_open))
        for directive, role, code, is_open in world.hq.ledger.connection.execute(
            "SELECT directive.id, role, delivery.state, open FROM delivery"
            " JOIN directive ON directive.no = directive_no"
            " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = store_no"
            " WHERE store.id = ?",
            (identity.store,),
        )
    }
    here = {
        (directive, role): (State(state), State(said), bool(is_open))
        for directive, role, state, said, is_open in disk.execute(  # type: ignore[attr-defined]
            "SELECT directive, role, state, said, open FROM delivery"
        )
    }
    # A sibling's word that died with its disk after a ledger was put back: only this copy has it.
    hearsay = {
        (one.directive, one.mailbox[1])
        for one in world.journal.statements
        if one.entry.died and one.mailbox[0] == identity.store and world.journal.ledgers_put_back
    }
    at_hq = {work: stands for work, stands in at_hq.items() if work not in hearsay}
    here = {work: stands for work, stands in here.items() if work not in hearsay}
    served = {ANY_ROLE, *roles}
    wanted = {work for work, (_, is_open) in at_hq.items() if is_open and work[1] in served}
    shown = {work for work, (_, _, is_open) in here.items() if is_open}
    for directive, role in sorted(wanted - shown):
        yield f"lacks {directive[:6]}/{role}, which HQ has open ({at_hq[directive, role][0]})"
    for directive, role in sorted(shown - wanted):
        yield f"shows {directive[:6]}/{role}, which HQ has as {at_hq.get((directive, role))}"
    for work in sorted(wanted & shown):
        state, (mine, said, _) = at_hq[work][0], here[work]
        if state is State.PENDING or STORE_RANK[mine] != STORE_RANK[state]:
            yield f"has {work[0][:6]}/{work[1]} as {mine} (said {said}), HQ as {state}"
    for work in sorted((here.keys() & at_hq.keys()) - wanted - shown):
        state, (mine, said, _) = at_hq[work][0], here[work]
        if work[1] not in served:
            continue
        # What was said here stays, though it was said too late for HQ.
        if state in CLOSED_BY_HQ and mine not in CLOSED_BY_HQ and mine is not said:
            yield f"has {work[0][:6]}/{work[1]} closed as {mine}, HQ as {state}"
        if state not in CLOSED_BY_HQ and mine in CLOSED_BY_HQ:
            # HQ counts what was reached before; staff see that it is over, unless they finished it.
            # (A snapshot names what is open only, so one may step over a sibling's word, and a disk
            # that was put back has forgotten its own.)
            if world.scenario.reopens or identity in world.journal.lost_disks:
                continue
            if STORE_RANK[state] > STORE_RANK[State.IN_PROGRESS]:
                yield f"has {work[0][:6]}/{work[1]} as {mine}, HQ as {state}"
