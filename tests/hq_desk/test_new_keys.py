"""All keys are lost: a new home, the old ledger restored into it, and devices that join again."""

import time
from pathlib import Path

from buswire import frame
from buswire.messages import Joined
from buswire.signing import check_seal
from hqconsole import hub_identity, keyring
from hqconsole.desk import Desk, Linked, Tick
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.restoring import restore_ledger
from tests.hq_desk.office import AT, SIBLING, TOPICS, Office, new_id
from tests.hq_desk.test_joining import Joiner, invite


def test_a_new_home_takes_over_the_old_ledger_with_its_own_keys(tmp_path: Path) -> None:
    """Seals and proofs are the new keys', history stays, and a device that joins anew is heard."""
    old, new, copy = tmp_path / "old", tmp_path / "new", tmp_path / "copy.db"
    for home in (old, new):
        home.mkdir()
    before = Office(old)
    hub_identity.prepare(old, before.ledger, root="storebus/v1", at=AT)
    before.desk.take_keys(keyring.Keyring.load(old))
    before.issue("Goes on")
    before.desk.handle([Linked()], before.now)
    before.ledger.backup(copy)
    before.ledger.close()

    with open_ledger(new, create=True) as ledger:
        hub_identity.prepare(new, ledger, root="storebus/v1", at=AT)
    restore_ledger(new, copy, at=time.time(), new_id=new_id, recovery_key=keyring.recovery_of(new))
    with open_ledger(new) as ledger:
        keys = hub_identity.prepare(new, ledger, root="storebus/v1", at=AT)
        assert keys.recovery != keyring.recovery_of(old)
        desk = Desk(
            ledger,
            TOPICS,
            keyring=keys,
            draw=lambda: 0.5,
            new_id=new_id,
            wall_clock=lambda: AT,
        )
        desk.handle([Tick()], 1.0)
        ((data, found),) = ledger.connection.execute("SELECT data, seal FROM doc").fetchall()
        check_seal(keys.signing(AT).public, "directive", bytes(data), found)
        for topic, text, key_id, signature in ledger.connection.execute(
            "SELECT joined_topic, joined_text, joined_key, joined_signature FROM device_key"
        ):
            frame.verify(frame.Envelope(key_id, signature, text), topic, keys.key_of)


def test_a_ledger_that_is_put_back_beside_its_own_keys_keeps_its_seals(tmp_path: Path) -> None:
    """Nothing is made anew where the keys are those that made it."""
    office = Office(tmp_path)
    hub_identity.prepare(tmp_path, office.ledger, root="storebus/v1", at=AT)
    office.desk.take_keys(keyring.Keyring.load(tmp_path))
    office.issue()
    office.desk.handle([Linked()], office.now)
    ((seal,),) = office.rows("SELECT seal FROM doc")
    copy = tmp_path / "copy.db"
    office.ledger.backup(copy)
    office.ledger.close()
    restore_ledger(
        tmp_path, copy, at=time.time(), new_id=new_id, recovery_key=keyring.recovery_of(tmp_path)
    )
    with open_ledger(tmp_path) as ledger:
        assert ledger.connection.execute("SELECT seal FROM doc").fetchone() == (seal,)


def test_a_copy_from_before_there_were_keys_becomes_this_homes(tmp_path: Path) -> None:
    """Its ledger names no recovery key yet."""
    office = Office(tmp_path)
    copy = tmp_path / "copy.db"
    office.ledger.backup(copy)
    hub_identity.prepare(tmp_path, office.ledger, root="storebus/v1", at=AT)
    joined = Joiner(office, invite(office, SIBLING), "new").ask()
    assert isinstance(joined, Joined)
    office.ledger.close()
    restore_ledger(
        tmp_path, copy, at=time.time(), new_id=new_id, recovery_key=keyring.recovery_of(tmp_path)
    )
    with open_ledger(tmp_path) as ledger:
        hub_identity.prepare(tmp_path, ledger, root="storebus/v1", at=AT)
