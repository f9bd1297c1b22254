"""HQ's keys on a device: followed only in answers to its own hellos, saved with the commit."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from buswire.device import Process
from buswire.messages import Hello, Nudge, Welcome
from buswire.signing import SigningKey, fingerprint
from buswire.trust import CHAIN_LIMIT, KeyEntry, Trusted, announce
from storeagent.core import Heard, Linked, Publish, Rang, Unlinked
from storeagent.database import open_agent_database
from storeagent.hearing import further
from tests.agent.device import Device
from tests.agent.head_office import ME, RECOVERY, TOPICS, HeadOffice, hq_key
from tests.agent.words import ALL_ANY, ids

TO = TOPICS.to(ME)
STRANGER = SigningKey(b"a stranger".ljust(32, b"."))


@pytest.fixture
def hq() -> HeadOffice:
    """A head office."""
    return HeadOffice()


@pytest.fixture
def device(hq: HeadOffice) -> Device:
    """A device that is linked and welcomed."""
    device = Device(hq)
    device.talk(Linked())
    return device


def _asking(device: Device) -> Hello:
    for one in device.handle(Unlinked(), Linked()):
        if isinstance(one, Publish):
            hello = device.hq.read(one.topic, one.payload)
            if isinstance(hello, Hello):
                return hello
    raise AssertionError("no hello")


def _answer(device: Device, hello: Hello, **changes: object) -> Welcome:
    (welcome, *_) = device.hq._answer(hello)
    assert isinstance(welcome, Welcome)
    return msgspec.structs.replace(welcome, **changes)


# --- rotation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotations", [1, 2, 5])
def test_who_slept_through_rotations_follows_them(
    device: Device, hq: HeadOffice, rotations: int
) -> None:
    """The welcome is signed with a key it never heard of, and carries the way to it."""
    device.handle(Unlinked())
    for _ in range(rotations):
        hq.rotate()
    hq.issue(ALL_ANY, 1)
    device.talk(Linked())
    assert device.core.trusted == hq.trust
    assert hq.hellos[-1].hq_key == hq_key(1).id
    assert len(device.core.inbox.items()) == 1
    assert device.core.inbox.aside_count() == 0
    device.talk(Unlinked(), Linked())
    assert hq.hellos[-1].hq_key == hq.key.id


def test_who_is_awake_learns_from_the_first_message_with_the_new_key(
    device: Device, hq: HeadOffice
) -> None:
    """A record signed with an unknown key leads to a hello, which brings key and record.

    Nobody is told of a forgery: the key has turned out to be HQ's own.
    """
    hq.rotate()
    device.talk(hq.issue(ALL_ANY, 1), hq.up())
    device.go_on(10.0)
    assert device.core.trusted == hq.trust
    assert len(device.core.inbox.items()) == 1
    assert device.core.inbox.aside_count() == 0
    assert hq.said("trouble") == []
    assert "not known here" in hq.hellos[-1].reason


def test_old_and_new_key_count_while_one_takes_over(device: Device, hq: HeadOffice) -> None:
    """What the old key signed on the last day arrives after the new one is known."""
    old = hq.key
    hq.rotate()
    late = hq.lay(TO, Nudge(reason="old"), old)
    device.talk(Unlinked(), Linked())
    device.talk(late)
    assert device.core.inbox.aside_count() == 0
    hq.rotate()
    device.talk(Unlinked(), Linked())
    device.talk(late)
    device.go_on(400.0)
    assert device.core.inbox.aside_count() == 1


def test_a_chain_longer_than_a_welcome_is_followed_in_steps(device: Device, hq: HeadOffice) -> None:
    """Many years of rotations: each hello leads a page further."""
    device.handle(Unlinked())
    for _ in range(CHAIN_LIMIT + 10):
        hq.rotate()
    device.talk(Linked())
    device.go_on(60.0)
    assert device.core.trusted == hq.trust
    assert device.core.welcomed


# --- recovery ------------------------------------------------------------------------------------


def test_a_recovery_leaves_only_the_new_key(device: Device, hq: HeadOffice) -> None:
    """The stolen key is worthless, also for announcing others."""
    stolen = hq.key
    hq.rotate()
    hq.recover()
    device.talk(Unlinked(), Linked())
    assert device.core.trusted.keys == [hq.key.public.text]
    hello = _asking(device)
    theft = announce(STRANGER.public, epoch=1, number=9, by=stolen)
    later = announce(STRANGER.public, epoch=2, number=1, by=stolen)
    forged = _answer(device, hello, keys=[theft, later])
    for key in (stolen, STRANGER):
        device.handle(hq.lay(TO, forged, key))
    assert device.core.trusted == hq.trust
    assert not device.core.welcomed


def test_nobody_without_the_recovery_key_can_recover(device: Device, hq: HeadOffice) -> None:
    """A higher epoch counts only by the key that was pinned at joining."""
    hello = _asking(device)
    entries: list[KeyEntry] = [
        announce(STRANGER.public, epoch=2, number=0, by=STRANGER),
        announce(STRANGER.public, epoch=2, number=0, by=hq.key),
        announce(STRANGER.public, epoch=1, number=1, by=STRANGER),
        announce(STRANGER.public, epoch=1, number=2, by=hq.key),
    ]
    before = device.core.trusted
    device.handle(hq.lay(TO, _answer(device, hello, keys=entries), STRANGER))
    assert device.core.trusted == before
    device.handle(hq.lay(TO, _answer(device, hello, keys=entries)))
    assert device.core.trusted == before
    assert device.core.welcomed, "the rest of a genuine welcome counts"


def test_keys_never_go_back(device: Device, hq: HeadOffice) -> None:
    """A chain that ends before what is known changes nothing."""
    hq.rotate()
    hq.recover()
    device.talk(Unlinked(), Linked())
    hello = _asking(device)
    device.handle(hq.lay(TO, _answer(device, hello, keys=hq.entries[:2])))
    assert device.core.trusted == hq.trust


# --- whose welcome -------------------------------------------------------------------------------


@pytest.mark.parametrize("nonce", ["before", "another's", "none"])
def test_a_welcome_that_is_not_to_our_latest_nonce_changes_no_trust(
    device: Device, hq: HeadOffice, nonce: str
) -> None:
    """Signed with the old key or with the new one, by HQ itself: it is not the answer."""
    first = _asking(device)
    second = _asking(device)
    old = hq.key
    hq.rotate()
    before = device.core.trusted
    if nonce == "none":
        device.talk(*hq._to(*hq._answer(second)))  # answered in full: no nonce is open any more
        before = device.core.trusted
        hq.rotate()
    said = {"before": first.nonce, "another's": ids("f", 1), "none": second.nonce}[nonce]
    welcome = _answer(device, second, nonce=said, keys=hq.entries[1:])
    for key in (old, hq.key):
        device.handle(hq.lay(TO, welcome, key))
        assert device.core.trusted == before


def test_keys_count_on_the_devices_own_topic_only(device: Device, hq: HeadOffice) -> None:
    """The same welcome on a channel is no way to learn a key."""
    hello = _asking(device)
    before = device.core.trusted
    hq.rotate()
    welcome = _answer(device, hello)
    for topic in (TOPICS.down(ALL_ANY), TOPICS.hq, TOPICS.heads("east")):
        device.handle(hq.lay(topic, welcome))
    assert device.core.trusted == before
    device.handle(hq.lay(TO, welcome))
    assert device.core.trusted == hq.trust


def test_a_forged_text_beside_a_genuine_chain_is_refused(device: Device, hq: HeadOffice) -> None:
    """The chain leads to the key, and the key did not sign this: nothing of it is adopted."""
    hello = _asking(device)
    before = device.core.trusted
    hq.rotate()
    good = hq.lay(TO, _answer(device, hello)).payload
    forged = good.replace(b'"mode":"', b'"mode": "', 1)
    assert forged != good
    device.handle(Heard(TO, forged))
    assert device.core.trusted == before
    assert not device.core.welcomed


# --- saved ---------------------------------------------------------------------------------------


def test_trust_survives_a_restart(hq: HeadOffice, tmp_path: Path) -> None:
    """What was followed is in the database; the file keeps what was pinned."""
    path = tmp_path / "agent.db"
    device = Device(hq, open_agent_database(path, create=True))
    device.talk(Linked())
    hq.rotate()
    hq.rotate()
    device.talk(Unlinked(), Linked())
    device.database.close()
    device.open(open_agent_database(path))
    assert device.core.trusted == hq.trust
    assert device.trust != hq.trust
    device.talk(Linked())
    assert hq.hellos[-1].hq_key == hq.key.id


def test_a_commit_that_fails_leaves_the_old_trust(device: Device, hq: HeadOffice) -> None:
    """Neither database nor memory has the new key; the next welcome brings it again."""
    hello = _asking(device)
    before = device.core.trusted
    hq.rotate()
    full = True

    def refuse(action: int, operation: str | None, *_: object) -> int:
        if full and action == sqlite3.SQLITE_TRANSACTION and operation == "COMMIT":
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    device.database.connection.set_authorizer(refuse)
    with pytest.raises(sqlite3.DatabaseError):
        device.handle(hq.lay(TO, _answer(device, hello)))
    full = False
    device.database.connection.set_authorizer(None)
    assert device.core.trusted == before
    assert device.core.memory.trust() is None
    device.talk(Rang())
    device.go_on(10.0)
    assert device.core.trusted == hq.trust
    assert device.core.memory.trust() == hq.trust


def test_a_device_put_back_from_an_image_follows_again(hq: HeadOffice, tmp_path: Path) -> None:
    """Its database knows less than it did, and learns it again."""
    path = tmp_path / "agent.db"
    device = Device(hq, open_agent_database(path, create=True))
    device.talk(Linked())
    device.database.checkpoint()
    image = path.read_bytes()
    hq.rotate()
    hq.rotate()
    device.talk(Unlinked(), Linked())
    device.database.close()
    path.write_bytes(image)
    device.open(open_agent_database(path))
    assert device.core.trusted == device.trust
    device.talk(Linked())
    assert device.core.trusted == hq.trust


def test_whichever_is_further_counts() -> None:
    """File or database, by epoch and number; of another joining, the file."""

    def trusted(epoch: int, number: int, recovery: SigningKey = RECOVERY) -> Trusted:
        return Trusted(recovery=recovery.public.text, epoch=epoch, number=number)

    assert further(trusted(1, 5), None) == trusted(1, 5)
    assert further(trusted(1, 5), trusted(1, 6)) == trusted(1, 6)
    assert further(trusted(2, 0), trusted(1, 6)) == trusted(2, 0)
    assert further(trusted(1, 5), trusted(2, 0)) == trusted(2, 0)
    assert further(trusted(1, 0), trusted(9, 9, STRANGER)) == trusted(1, 0)
    assert fingerprint(STRANGER.public).replace(" ", "") == STRANGER.id


# --- processes -----------------------------------------------------------------------------------


def test_starts_and_hellos_are_counted(hq: HeadOffice, tmp_path: Path) -> None:
    """A process that begins is a start; a core made anew in it is none, and goes on counting."""
    path = tmp_path / "agent.db"
    device = Device(hq, open_agent_database(path, create=True))
    device.talk(Linked())
    device.talk(Unlinked(), Linked())
    process = device.core.process
    device.database.close()
    device.open(open_agent_database(path), process=process)
    device.talk(Linked())
    device.core.reload()
    device.talk(Rang())
    device.database.close()
    device.open(open_agent_database(path))
    device.talk(Linked())
    *first, last = hq.hellos
    assert len(first) >= 4
    assert [(hello.start, hello.number) for hello in first] == [
        (1, number) for number in range(1, len(first) + 1)
    ]
    assert (last.start, last.number) == (2, 1)
    assert {hello.run for hello in first} == {process.run}
    assert last.run != process.run
    assert all(hello.machine == process.machine for hello in hq.hellos)
    assert len(process.machine) <= 100


def test_a_machine_with_an_odd_name_can_speak(
    hq: HeadOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that are no text, or far too many of them, keep no hello from being sent."""
    for name in ("caf\udce9", "x" * 5_000, ""):
        monkeypatch.setattr("platform.node", lambda name=name: name)
        device = Device(hq)
        device.talk(Linked())
        assert device.core.welcomed
    assert hq.hellos[0].machine == "caf?"


def test_another_database_under_the_same_process_counts_its_start(
    hq: HeadOffice, tmp_path: Path
) -> None:
    """The file was replaced by an older copy while the process ran: the next start is higher."""
    device = Device(hq, open_agent_database(tmp_path / "new.db", create=True))
    process = Process(run=ids("c", 1), start=7)
    device.open(device.database, process=process)
    assert device.core.memory.number("starts") == 7
    device.open(device.database)
    assert device.core.process.start == 8


def test_a_challenge_is_said_again(device: Device, hq: HeadOffice) -> None:
    """Only somebody who is there can do so; a forged challenge is not repeated."""
    device.talk(hq.lay(TO, Nudge(challenge=ids("c", 1))))
    device.go_on(5.0)
    assert ids("c", 1) in [hello.challenge for hello in hq.hellos]
    device.talk(hq.lay(TO, Nudge(challenge=ids("c", 2)), STRANGER))
    device.go_on(400.0)
    assert ids("c", 2) not in [hello.challenge for hello in hq.hellos]
