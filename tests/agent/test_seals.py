"""HQ's seals stay with the copies that a device keeps, and go back with them."""

from pathlib import Path

import msgspec
import pytest

from buskit.database import open_database
from buswire.messages import HQ_KINDS, Record, SnapshotItem, decode_data, encode_data
from buswire.signing import check_seal, seal
from buswire.states import State
from storeagent.core import Linked, Rang, Unlinked
from storeagent.database import APPLICATION_ID, MIGRATIONS
from tests.agent.device import Device
from tests.agent.head_office import HeadOffice, hq_key
from tests.agent.words import ALL_ANY, ALL_MANAGER, STORE_ANY, Bench, directive, ids


def _sealed(record: Record) -> Record:
    text = seal(hq_key(1), record.kind, bytes(record.data))
    return msgspec.structs.replace(record, seal=text)


def _originals(bench: Bench) -> list[dict[str, object]]:
    return [data for kind, data in bench.sent() if kind == "original"]


@pytest.fixture
def bench() -> Bench:
    """A device's tables in memory."""
    return Bench()


def test_a_directive_goes_back_with_its_seal(bench: Bench) -> None:
    """Byte for byte what HQ sealed, so that HQ can check it."""
    record = _sealed(bench.words.issue())
    bench.take(ALL_ANY, record)
    bench.reset()
    bench.answer("unknown")
    (entry,) = [
        e.record
        for e in bench.outbox.entries("act", after=0, most=9, most_bytes=10**6)
        if e.record.kind == "original"
    ]
    original = msgspec.json.decode(bytes(entry.data), type=_Original)
    assert original.seal == record.seal
    check_seal(hq_key(1).public, "directive", bytes(original.data), original.seal)


class _Original(msgspec.Struct):
    data: msgspec.Raw
    seal: str = ""


def test_a_withdrawal_goes_back_with_its_seal(bench: Bench) -> None:
    """Likewise."""
    record = _sealed(bench.words.cancel())
    bench.take(STORE_ANY, record)
    bench.take(ALL_ANY, bench.words.issue())
    (original,) = _originals(bench)
    assert original["seal"] == record.seal


def test_an_item_of_a_snapshot_keeps_its_seal(bench: Bench) -> None:
    """A device that only ever saw the snapshot can heal HQ, too."""
    raw = encode_data(directive())
    text = seal(hq_key(1), "directive", raw)
    with bench.database.write():
        item = SnapshotItem(role="any", state=State.PENDING, data=msgspec.Raw(raw), seal=text)
        bench.effects._take_item(item, directive())
    assert bench.inbox.directive_seal(ids("d", 1)) == text
    assert bench.inbox.directive_data(ids("d", 1)) == raw


@pytest.mark.parametrize("by", ["its channel", "another role's channel", "a snapshot"])
def test_a_copy_without_a_seal_is_replaced_by_one_with(bench: Bench, by: str) -> None:
    """From before HQ signed: the sealed bytes take the place of the old ones, whatever brings them.

    The delivery stays as it is.
    """
    bench.take(ALL_ANY, bench.words.issue(1, title="Old spelling"))
    bench.statements.read(ids("d", 1), "any")
    sealed = _sealed(bench.words.issue(1, title="New spelling"))
    match by:
        case "its channel":
            bench.take(ALL_ANY, sealed)
        case "another role's channel":
            bench.take(ALL_MANAGER, sealed)
        case _:
            with bench.database.write():
                new = decode_data("directive", sealed.data, HQ_KINDS)
                item = SnapshotItem(
                    role="any", state=State.READ, data=sealed.data, seal=sealed.seal
                )
                bench.effects._take_item(item, new)
    assert bench.inbox.directive_seal(ids("d", 1)) == sealed.seal
    assert bench.inbox.directive_data(ids("d", 1)) == bytes(sealed.data)
    assert bench.state() is State.READ
    (item_shown,) = bench.inbox.items_with_number(1)
    assert item_shown.title == "New spelling"


def test_a_seal_is_not_lost_nor_changed(bench: Bench) -> None:
    """A later copy, with another seal or with none, does not replace the first sealed one."""
    first = _sealed(bench.words.issue())
    bench.take(ALL_ANY, first)
    other = bench.words.issue(1, title="Other")
    bench.take(ALL_ANY, other)
    text = seal(hq_key(2), "directive", bytes(other.data))
    again = bench.words.record("directive", bytes(other.data))
    bench.take(ALL_ANY, msgspec.structs.replace(again, seal=text))
    assert bench.inbox.directive_seal(ids("d", 1)) == first.seal
    assert bench.inbox.directive_data(ids("d", 1)) == bytes(first.data)


def test_an_unsealed_withdrawal_is_replaced_too(bench: Bench) -> None:
    """The tombstone stays, with the better copy."""
    bench.take(STORE_ANY, bench.words.cancel(reason="old"))
    sealed = _sealed(bench.words.cancel(reason="new"))
    bench.take(STORE_ANY, sealed)
    bench.take(STORE_ANY, bench.words.cancel(reason="later"))
    held = bench.inbox.cancel(ids("d", 1))
    assert held is not None
    assert (held.seal, held.data) == (sealed.seal, bytes(sealed.data))


def test_hq_that_forgot_gets_the_seal_over_the_wire() -> None:
    """The whole way: issued, ledger put back, asked for, sent up with HQ's own seal."""
    hq = HeadOffice()
    device = Device(hq)
    device.talk(Linked())
    device.talk(hq.issue(ALL_ANY, 1))
    hq.want = [ids("d", 1)]
    device.talk(Unlinked(), Linked())
    device.talk(Rang())
    (original,) = hq.said("original")
    named, _, _ = str(original["seal"]).partition(" ")
    assert named == hq.key.id


def test_a_database_from_before_the_seals_opens(tmp_path: Path) -> None:
    """Its rows have no seal, everything else is as it was, and a seal is taken when one comes."""
    path = tmp_path / "agent.db"
    terms = {"application_id": APPLICATION_ID, "what": "it", "hint_create": ""}
    with (
        open_database(path, MIGRATIONS[:1], create=True, **terms) as old,
        old.write() as connection,
    ):
        connection.execute(
            "INSERT INTO directive VALUES (?, 'T', 'notice', 'normal', NULL, 0, '', ?)",
            (ids("d", 1), encode_data(directive())),
        )
        connection.execute("INSERT INTO cancel VALUES (?, 'any', x'7b7d', 0, 0)", (ids("d", 2),))
    bench = Bench(str(path))
    assert bench.inbox.directive_seal(ids("d", 1)) == ""
    assert bench.inbox.directive_data(ids("d", 1)) == encode_data(directive())
    held = bench.inbox.cancel(ids("d", 2))
    assert held is not None
    assert (held.data, held.seal, held.original_position) == (b"{}", "", 0)
    sealed = _sealed(bench.words.issue())
    bench.take(ALL_ANY, sealed)
    assert bench.inbox.directive_seal(ids("d", 1)) == sealed.seal
