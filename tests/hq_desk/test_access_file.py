"""The access file: who is in it, when it is written anew, and that nobody waits for it."""

import stat
import sys
from pathlib import Path

import pytest

from buskit.database import Database
from buskit.secrets import SecretError
from buswire.access import AccessFile, decode_access, token_hash
from buswire.topics import Identity
from hqconsole import hub_identity, keyring
from hqconsole.access_file import AccessFileError, AccessFileWriter, render
from hqconsole.keyring import KeyringError, KeyringMissing
from hqconsole.ledger import access, enrolment, organisation
from hqconsole.ledger.opening import open_ledger
from tests.hq_desk.office import AT, OTHER, SIBLING, TILL, Office, new_id
from tests.hq_desk.test_joining import DAY, Joiner, confirming, invite


def read(home: Path) -> AccessFile:
    """The file as a broker reads it."""
    return decode_access((home / "access.json").read_bytes())


def shown(office: Office) -> AccessFile:
    """What the file would be now."""
    return render(office.ledger, office.at, root="storebus/v1")[0]


def test_it_shows_who_may_connect_and_who_they_are(tmp_path: Path) -> None:
    """Active devices with region and roles, the hub, bundles and tools, and hashes of tokens."""
    office = Office(tmp_path)
    office.roster("S1", "S2", roles=("manager", "clerk"))
    office.enrol(OTHER, ["clerk"])
    bundle = invite(office)
    with office.ledger.write() as connection:
        connection.execute(
            "INSERT INTO tool (name, token_hash, reads, made_at, made_by)"
            " VALUES ('dashboard', ?, '[\"storebus/v1/down/#\"]', 0, '')",
            (token_hash("tool"),),
        )
        access.save_hub_token_hash(connection, token_hash("hub"))
    found = shown(office)
    assert {name: (one.region, one.roles) for name, one in found.devices.items()} == {
        "S1.till-1": ("east", ["manager", "clerk"]),
        "S2.till-1": ("east", ["clerk"]),
    }
    assert found.devices["S1.till-1"].tokens == [token_hash(str(TILL))]
    hub = f"hub/{access.hub_id(office.ledger.connection)}"
    assert {name: one.tokens for name, one in found.hubs.items()} == {hub: [token_hash("hub")]}
    assert list(found.joins) == [f"join/{bundle}"]
    assert found.tools["tool/dashboard"].reads == ["storebus/v1/down/#"]
    office.ledger.close()


def test_a_file_that_somebody_removed_or_replaced_is_written_again(
    tmp_path: Path, office: Office
) -> None:
    """An older copy would let in who is revoked, and none at all keeps a broker from starting."""
    writer = AccessFileWriter(tmp_path, "storebus/v1")
    assert writer.refresh(office.ledger, office.at)
    path = tmp_path / "access.json"
    older = path.read_bytes()
    with office.ledger.write() as connection:
        enrolment.revoke(connection, TILL, at=office.at, by="Ana")
    assert writer.refresh(office.ledger, office.at)
    assert not writer.refresh(office.ledger, office.at)
    newer = path.read_bytes()
    path.write_bytes(older)
    assert writer.refresh(office.ledger, office.at)
    assert path.read_bytes() == newer
    path.unlink()
    assert writer.refresh(office.ledger, office.at)
    assert path.read_bytes() == newer
    assert not writer.refresh(office.ledger, office.at)


def test_closed_stores_and_revoked_devices(office: Office) -> None:
    """A device of a closed store may connect and has no channels; a revoked one is not there."""
    office.roster("S1")
    assert (
        shown(office).devices["S2.till-1"].region,
        shown(office).devices["S2.till-1"].roles,
    ) == (
        "",
        [],
    )
    with office.ledger.write() as connection:
        enrolment.revoke(connection, TILL, at=office.at, by="Ana")
    assert list(shown(office).devices) == ["S2.till-1"]


def test_bundles_stay_as_long_as_they_may_be_heard(office: Office) -> None:
    """A used one until it expires, so that a second use is heard; a waiting one until decided."""
    confirming(office)
    used, astray, waits = (
        invite(office, Identity("S1", name)) for name in ("till-2", "till-3", "till-4")
    )
    Joiner(office, used, "used").ask()
    with office.ledger.write() as connection:
        enrolment.confirm(connection, SIBLING, Joiner(office, used, "used").key.id, at=office.at)
    Joiner(office, waits, "waits").ask()
    assert set(shown(office).joins) == {f"join/{one}" for one in (used, astray, waits)}
    office.at += 8 * DAY
    assert set(shown(office).joins) == {f"join/{waits}"}
    with office.ledger.write() as connection:
        enrolment.withdraw_bundle(connection, waits, at=office.at)
    assert shown(office).joins == {}


def test_every_change_of_access_raises_the_version(office: Office) -> None:
    """Roster, roles, invitations, joinings, revocations: none is missed."""
    seen = [access.version(office.ledger.connection)]

    def changed() -> None:
        seen.append(access.version(office.ledger.connection))
        assert seen[-1] > seen[-2]

    office.roster("S1", "S2", region="west")
    changed()
    bundle = invite(office)
    changed()
    Joiner(office, bundle, "new").ask()
    changed()
    with office.ledger.write() as connection:
        organisation.assign_roles(connection, "S1", "till-2", [], new_id=new_id)
    changed()
    with office.ledger.write() as connection:
        enrolment.revoke(connection, SIBLING, at=office.at, by="Ana")
    changed()
    other = invite(office)
    changed()
    with office.ledger.write() as connection:
        enrolment.withdraw_bundle(connection, other, at=office.at)
    changed()
    office.issue()
    office.hello()
    assert access.version(office.ledger.connection) == seen[-1], "and nothing else does"


def test_it_is_written_when_due_and_only_then(tmp_path: Path) -> None:
    """After a change, and when a bundle in it has expired; readable for a broker's group."""
    office = Office(tmp_path)
    writer = AccessFileWriter(tmp_path, "storebus/v1")
    assert writer.refresh(office.ledger, office.at)
    assert not writer.refresh(office.ledger, office.at + 1e9)
    invite(office, days=2)
    assert writer.refresh(office.ledger, office.at)
    assert len(read(tmp_path).joins) == 1
    assert not writer.refresh(office.ledger, office.at + DAY)
    assert writer.refresh(office.ledger, office.at + 2 * DAY)
    assert read(tmp_path).joins == {}
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "access.json").stat().st_mode) & 0o007 == 0
    office.ledger.close()


def test_what_cannot_be_written_is_due_as_before(tmp_path: Path) -> None:
    """The old file stays, and the next try writes it."""
    office = Office(tmp_path)
    home = tmp_path / "elsewhere"
    writer = AccessFileWriter(home, "storebus/v1")
    with pytest.raises(AccessFileError):
        writer.refresh(office.ledger, office.at)
    home.mkdir()
    assert writer.refresh(office.ledger, office.at)
    office.ledger.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Database:
    """The ledger of a home that has nothing else."""
    return open_ledger(tmp_path, create=True)


def test_a_home_is_prepared_once(tmp_path: Path, ledger: Database) -> None:
    """Keys, the hub's token and the access file are made where they are missing, and kept."""
    keys = hub_identity.prepare(tmp_path, ledger, root="storebus/v1", at=AT)
    shown_hub = hub_identity.ensure(tmp_path, ledger)
    assert read(tmp_path).hubs[shown_hub.name].tokens == [token_hash(shown_hub.token)]
    again = hub_identity.prepare(tmp_path, ledger, root="storebus/v1", at=AT)
    assert again.recovery == keys.recovery
    assert hub_identity.ensure(tmp_path, ledger) == shown_hub
    assert shown_hub.client_id("a" * 32) == f"{shown_hub.name}/{'a' * 16}"
    ledger.close()


def test_a_lost_token_is_drawn_anew(tmp_path: Path, ledger: Database) -> None:
    """The hub is the only one who needs it, and brokers learn of it from the file."""
    hub_identity.prepare(tmp_path, ledger, root="storebus/v1", at=AT)
    before = hub_identity.ensure(tmp_path, ledger)
    (tmp_path / "hub.key").unlink()
    hub_identity.prepare(tmp_path, ledger, root="storebus/v1", at=AT)
    after = hub_identity.ensure(tmp_path, ledger)
    assert after.token != before.token
    assert read(tmp_path).hubs[after.name].tokens == [token_hash(after.token)]
    ledger.close()


def test_keys_that_are_gone_are_never_made_anew(tmp_path: Path, ledger: Database) -> None:
    """A head office that lost them must not become another one that no device knows."""
    hub_identity.prepare(tmp_path, ledger, root="storebus/v1", at=AT)
    folder = tmp_path / "keys"
    folder.rename(tmp_path / "lost")
    with pytest.raises(KeyringMissing) as refused:
        hub_identity.prepare(tmp_path, ledger, root="storebus/v1", at=AT)
    assert "backup" in str(refused.value.hint)
    keyring.create(tmp_path, at=AT)
    with pytest.raises(KeyringError, match="another head office"):
        hub_identity.prepare(tmp_path, ledger, root="storebus/v1", at=AT)
    ledger.close()


@pytest.mark.skipif(sys.platform == "win32", reason="rights are not checked there")
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, ledger: Database) -> None:
    """With the command that closes the file."""
    hub_identity.prepare(tmp_path, ledger, root="storebus/v1", at=AT)
    (tmp_path / "hub.key").chmod(0o640)
    with pytest.raises(SecretError):
        hub_identity.ensure(tmp_path, ledger)
    ledger.close()
