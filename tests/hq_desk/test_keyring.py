"""HQ's keys in files: made once, rotated, recovered, and what is said when they are not there."""

import stat
import sys
from pathlib import Path

import pytest

from buskit.secrets import SecretError
from buswire.signing import SigningKey, seal
from buswire.trust import Trust
from hqconsole import keyring
from hqconsole.keyring import Keyring, KeyringError, KeyringMissing
from tests.hq_desk.office import AT, seed

DAY = 86_400.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with keys."""
    keyring.create(tmp_path, at=AT)
    return tmp_path


def files(home: Path) -> dict[str, bytes]:
    """What lies in the folder of keys."""
    return {path.name: path.read_bytes() for path in (home / "keys").iterdir()}


def test_made_once_and_only_for_their_owner(home: Path) -> None:
    """Said again nothing changes; private halves have mode 0600, the chain is public."""
    before = files(home)
    again = keyring.create(home, at=AT + DAY)
    assert files(home) == before
    assert again.signing(AT).id == Keyring.load(home).signing(AT).id
    if sys.platform != "win32":
        modes = {
            path.suffix: stat.S_IMODE(path.stat().st_mode) for path in (home / "keys").iterdir()
        }
        assert modes[".key"] == 0o600
        assert modes[".json"] == 0o644


def test_a_creation_cut_short_goes_on_with_the_same_recovery_key(home: Path) -> None:
    """The recovery key may have been copied to a safe already."""
    recovery = Keyring.load(home).recovery
    (home / "keys" / "chain.json").unlink()
    assert keyring.create(home, at=AT).recovery == recovery


def test_a_rotation_overlaps_and_both_keys_are_trusted(home: Path) -> None:
    """The new key is announced at once and signs when the overlap is over; a device follows."""
    first = Keyring.load(home)
    pinned = Trust(first.trusted())
    second = keyring.rotate(home, DAY, AT)
    assert second.signing(AT + DAY - 1).id == first.signing(AT).id
    assert second.signing(AT + DAY).id != first.signing(AT).id
    followed = pinned.follow(second.entries)
    assert followed.refused == 0
    assert followed.trust.newest == second.signing(AT + DAY).id
    assert followed.trust.key_of(first.signing(AT).id) is not None
    assert second.key_of(first.signing(AT).id) is not None, "its seals count for ever"


def test_no_rotation_before_the_last_one_is_over(home: Path) -> None:
    """Devices trust the two newest keys: a third one too early would leave the signing one out."""
    keyring.rotate(home, DAY, AT)
    with pytest.raises(KeyringError, match="does not sign yet") as refused:
        keyring.rotate(home, DAY, AT + DAY / 2)
    assert refused.value.hint
    third = keyring.rotate(home, 0.0, AT + DAY)
    assert [entry.number for entry in third.entries] == [1, 2, 3]
    assert Trust(third.trusted()).key_of(third.signing(AT + DAY).id) is not None


def test_a_clock_put_back_signs_with_what_is_trusted(home: Path) -> None:
    """Before its time even the first key signs: HQ is never without."""
    assert Keyring.load(home).signing(0.0).id == Keyring.load(home).signing(AT).id


def test_a_lost_key_is_replaced_and_its_seals_go_on_counting(home: Path) -> None:
    """Recovery begins a new epoch; the lost key signs no more and what it sealed stays HQ's."""
    lost = Keyring.load(home).signing(AT)
    (home / "keys" / f"{lost.id}.key").unlink()
    with pytest.raises(KeyringError, match="the key that signs is not in") as missing:
        Keyring.load(home)
    assert "hq key recover" in str(missing.value.hint)
    after = keyring.recover(home, home / "keys" / "recovery.key", stolen=False, at=AT + DAY)
    assert after.signing(AT + DAY).id != lost.id
    assert after.key_of(lost.id) is not None
    assert after.entries[-1].epoch > 1


def test_a_stolen_key_counts_for_nothing_and_its_chain_leads_nowhere(home: Path) -> None:
    """Whatever the thief announces with it, devices that heard of the recovery stay with HQ."""
    before = Keyring.load(home)
    stolen = before.signing(AT)
    pinned = Trust(before.trusted())
    after = keyring.recover(home, home / "keys" / "recovery.key", stolen=True, at=AT + DAY)
    assert after.stolen == {stolen.id}
    assert after.key_of(stolen.id) is None
    trust = pinned.follow(after.entries).trust
    assert trust.key_of(stolen.id) is None
    assert trust.newest == after.signing(AT + DAY).id
    assert keyring.recover(
        home, home / "keys" / "recovery.key", stolen=False, at=AT + 2 * DAY
    ).stolen == {stolen.id}, "nothing takes that back"


def test_an_older_copy_of_the_chain_recovers_beyond_what_devices_know(home: Path) -> None:
    """A recovery that the copy does not know of was followed already: the next one outranks it."""
    recovery = home / "keys" / "recovery.key"
    copy = (home / "keys" / "chain.json").read_bytes()
    device = Trust(Keyring.load(home).trusted())
    device = device.follow(keyring.recover(home, recovery, stolen=True, at=AT).entries).trust
    (home / "keys" / "chain.json").write_bytes(copy)
    again = keyring.recover(home, recovery, stolen=True, at=AT + DAY)
    assert device.follow(again.entries).trust.newest == again.signing(AT + DAY).id


def test_only_this_head_offices_recovery_key_recovers(home: Path, tmp_path: Path) -> None:
    """Another one is refused before anything is written."""
    before = files(home)
    other = tmp_path / "other.key"
    keyring.write_key(other, SigningKey(seed("stranger")))
    with pytest.raises(KeyringError, match="is not the recovery key"):
        keyring.recover(home, other, stolen=True, at=AT)
    other.write_bytes(b"no key\n")
    with pytest.raises(KeyringError, match="no private key"):
        keyring.recover(home, other, stolen=True, at=AT)
    assert files(home) == before


@pytest.mark.skipif(sys.platform == "win32", reason="rights are not checked there")
def test_a_key_that_others_can_read_is_refused(home: Path) -> None:
    """With the command that closes the file."""
    path = home / "keys" / f"{Keyring.load(home).signing(AT).id}.key"
    path.chmod(0o644)
    with pytest.raises(SecretError) as refused:
        Keyring.load(home)
    assert "chmod 600" in str(refused.value.hint)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"format":1,"recovery":"x","keys":[]}'])
def test_a_damaged_chain_is_named(home: Path, content: bytes) -> None:
    """With the hint to put it back."""
    (home / "keys" / "chain.json").write_bytes(content)
    with pytest.raises(KeyringError, match=r"chain\.json") as refused:
        Keyring.load(home)
    assert "backup" in str(refused.value.hint)


def test_a_chain_that_does_not_follow_itself_is_refused(home: Path) -> None:
    """An entry slipped in is not signed by what was before."""
    path = home / "keys" / "chain.json"
    keyring.rotate(home, 0.0, AT)
    text = path.read_text()
    path.write_text(text.replace('"number": 2', '"number": 3'))
    with pytest.raises(KeyringError, match="contradicts itself"):
        Keyring.load(home)


def test_a_home_without_keys_says_so(tmp_path: Path) -> None:
    """Loading, rotating and recovering alike, and none of them makes a folder."""
    with pytest.raises(KeyringMissing):
        Keyring.load(tmp_path)
    with pytest.raises(KeyringMissing):
        keyring.rotate(tmp_path, DAY, AT)
    with pytest.raises(KeyringMissing):
        keyring.recover(tmp_path, tmp_path / "recovery.key", stolen=True, at=AT)
    assert list(tmp_path.iterdir()) == []


def test_the_stamp_differs_after_every_change(home: Path) -> None:
    """That is how a hub notices."""
    stamps = [keyring.stamp(home)]
    keyring.rotate(home, 0.0, AT)
    stamps.append(keyring.stamp(home))
    keyring.recover(home, home / "keys" / "recovery.key", stolen=True, at=AT)
    stamps.append(keyring.stamp(home))
    assert len(set(stamps)) == 3
    assert keyring.stamp(home) == stamps[-1]


def test_no_private_key_shows_in_a_representation(home: Path) -> None:
    """What is logged by accident gives nothing away."""
    keys = Keyring.load(home)
    secret = keys.signing(AT).seed
    assert secret.hex() not in repr(keys.signing(AT))
    assert seal(keys.signing(AT), "directive", b"x").startswith(keys.signing(AT).id)


def test_private_keys_that_nobody_trusts_are_removed(home: Path) -> None:
    """A thief of the home finds two at most, and after a recovery one."""

    def here() -> set[str]:
        return {path.stem for path in (home / "keys").glob("*.key")} - {"recovery"}

    first = Keyring.load(home)
    rings = [first, *(keyring.rotate(home, 0.0, AT + day * DAY) for day in range(1, 4))]
    ids = [ring.keys[-1].public.id for ring in rings]
    assert here() == set(ids[-2:])
    assert rings[-1].key_of(ids[0]) is not None, "its seals count"
    after = keyring.recover(home, home / "keys" / "recovery.key", stolen=False, at=AT + 9 * DAY)
    assert here() == {after.keys[-1].public.id}
