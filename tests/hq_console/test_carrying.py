"""`hq restore` puts back what was said, and not who may speak: that stays as it was until now."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from buswire.messages import Alert
from buswire.topics import Identity
from hqconsole.access_file import render
from hqconsole.ledger import device_runs, devices, organisation
from hqconsole.ledger.opening import open_ledger
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field

TILL_1, TILL_2 = Identity("S1", "till-1"), Identity("S1", "till-2")


def access(home: Path) -> dict[str, Any]:
    """The devices of the access file as the hub would write it now, with its tools."""
    with open_ledger(home) as ledger:
        rendered, _ = render(ledger, 2e9, root="storebus/v1")
    return {
        **{name: (entry.tokens, entry.roles) for name, entry in rendered.devices.items()},
        **{name: entry.tokens for name, entry in rendered.tools.items()},
        "version": rendered.version,
    }


def restore(run: Run, copy: Path) -> str:
    """Put the copy back; what is told."""
    code, _, errors = run("restore", str(copy), "--yes")
    assert code == 0, errors
    return errors


def backup(run: Run, tmp_path: Path) -> Path:
    """A copy as of now."""
    assert run("backup", str(tmp_path / "copy.db"))[0] == 0
    return tmp_path / "copy.db"


def test_who_was_revoked_since_stays_out(
    run: Run, home: Path, field: Field, tmp_path: Path
) -> None:
    """An older ledger must not let a stolen till in again."""
    field.device(*TILL_1)
    copy = backup(run, tmp_path)
    run("device", "revoke", str(TILL_1), "--why", "stolen")
    told = restore(run, copy)
    assert "stays as it was until now" in told
    assert str(TILL_1) not in access(home)
    (row,) = json.loads(run("device", "list", "--json")[1])
    assert row["state"] == "revoked"


def test_who_joined_or_got_another_key_since_is_heard(
    run: Run, home: Path, field: Field, tmp_path: Path
) -> None:
    """They bring back what the older ledger has forgotten; refused, they could not."""
    field.device(*TILL_1)
    copy = backup(run, tmp_path)
    field.device(*TILL_1)  # joins anew: another key, another token
    field.device(*TILL_2)
    now = access(home)
    restore(run, copy)
    after = access(home)
    assert after.pop("version") > now.pop("version")
    assert after == now
    for name in ("till-1", "till-2"):
        field.hello(field.devices[Identity("S1", name)])
        field.say("S1", Alert(alert="incident", fields={"what": name}), name=name)
    assert len(json.loads(run("alerts", "--json")[1])) == 2
    code, _, errors = run("verify")
    assert code == 0, errors


def test_hellos_that_were_said_since_are_old_after_it(
    run: Run, home: Path, field: Field, tmp_path: Path
) -> None:
    """What somebody recorded between the copy and now is not believed again."""
    field.device(*TILL_1)
    copy = backup(run, tmp_path)
    field.device(*TILL_1)

    def runs() -> dict[str, Any]:
        with open_ledger(home) as ledger:
            place = organisation.place_of(ledger.connection, "S1")
            assert place is not None
            device = devices.find(ledger.connection, TILL_1, place)
            assert device is not None
            return device_runs.of_device(ledger.connection, device.no)

    before = runs()
    assert before
    restore(run, copy)
    assert runs() == before


def test_a_role_that_was_taken_away_since_stays_away(
    run: Run, home: Path, field: Field, tmp_path: Path
) -> None:
    """And the channel set has a version that the copy never gave it."""
    field.device(*TILL_1, ("clerk", "manager"))
    copy = backup(run, tmp_path)
    assert run("roster", "assign", "S1", "till-1", "--role", "clerk")[0] == 0
    restore(run, copy)
    assert access(home)[str(TILL_1)][1] == ["clerk"]
    with sqlite3.connect(copy) as old, open_ledger(home) as ledger:
        query = "SELECT set_seq, set_id FROM store WHERE id = 'S1'"
        assert old.execute(query).fetchone() != ledger.connection.execute(query).fetchone()


def test_tools_and_bundles_are_as_they_were(run: Run, home: Path, tmp_path: Path) -> None:
    """A revoked tool stays revoked, and a bundle that was given out is good."""
    run("tool", "add", "old")
    copy = backup(run, tmp_path)
    run("tool", "revoke", "old")
    run("tool", "add", "new")
    assert (
        run("device", "add", "S2", "till-1", "-o", str(tmp_path / "b"), "--roles", "clerk")[0] == 0
    )
    bundle = json.loads((tmp_path / "b").read_text())
    restore(run, copy)
    names = access(home)
    assert "tool/new" in names
    assert "tool/old" not in names
    with open_ledger(home) as ledger:
        rendered, _ = render(ledger, bundle["expires_at"] - 1, root="storebus/v1")
    assert f"join/{bundle['id']}" in rendered.joins


def test_devices_of_stores_that_the_copy_lacks_are_named(
    run: Run, home: Path, field: Field, tmp_path: Path
) -> None:
    """Somebody has to import the roster first."""
    copy = backup(run, tmp_path)
    stores = (tmp_path / "stores.csv").read_text() + "S6,Six,West,Europe/Lisbon,clerk,\n"
    (tmp_path / "stores.csv").write_text(stores)
    run("roster", "import", str(tmp_path / "stores.csv"))
    field.device("S6", "till-1")
    assert "1 devices are left out" in (told := restore(run, copy))
    assert "S6.till-1" in told


def test_without_a_readable_ledger_the_operator_is_told_what_to_look_at(
    run: Run, home: Path, field: Field, tmp_path: Path
) -> None:
    """The copy is all there is, revocations of since then included."""
    field.device(*TILL_1)
    copy = backup(run, tmp_path)
    (home / "ledger.db").write_bytes(b"rubbish" * 1000)
    for companion in ("ledger.db-wal", "ledger.db-shm"):
        (home / companion).unlink(missing_ok=True)
    told = restore(run, copy)
    assert "revoke again who was revoked since" in told
    assert str(TILL_1) in access(home)


def test_the_audit_goes_on_where_it_was(run: Run, home: Path, tmp_path: Path) -> None:
    """What operators did since the backup is not forgotten, and the chain of hashes holds."""
    copy = backup(run, tmp_path)
    assert run("publish", "Regretted", "--all")[0] == 0
    before = json.loads(run("audit", "--json")[1])
    for _ in range(2):
        restore(run, copy)
    after = json.loads(run("audit", "--json")[1])
    assert [row["hash"] for row in after[: len(before)]] == [row["hash"] for row in before]
    assert [row["action"] for row in after[len(before) :]] == ["restore", "restore"]
    assert run("verify")[0] == 0


def test_the_audit_of_another_head_office_is_not_mixed_in(
    run: Run, home: Path, tmp_path: Path
) -> None:
    """Its rows would follow from nothing; what it says itself stays whole."""
    copy = backup(run, tmp_path)
    with open_ledger(home) as ledger, ledger.write() as connection:
        connection.execute("UPDATE audit SET hash = 'x' || substr(hash, 2)")
    restore(run, copy)
    assert run("verify")[0] == 0
