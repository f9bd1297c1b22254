"""Whatever version a database is of, the present program goes on with it, or refuses it untouched.

A migration that was released is never changed, and each version has its frozen databases.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import msgspec
import pytest

from buskit import database
from buskit.migrations import Migration, apply_migration
from buswire.access import AccessFile, decode_access, encode_access
from buswire.errors import BusError, WireError
from hqconsole import keyring
from storeagent.keys import KEY_NAME, read_key
from storeagent.settings import read_agent_settings
from tests.agent.processes import set_up
from tests.faults.rows import Row
from tests.faults.upgrade import FROZEN, KINDS, Kind, opens, taken_into_use, thaw, upgrade

RELEASED = {
    "ledger": ("dc2cbdd1", "fb1f109f", "77048c4a", "54b6dd87"),
    "agent": ("2a7dde23", "b95bff6e", "d891da68", "fe12fb67"),
}
"""The beginnings of the SHA-256 of each migration. Only ever added to."""


def _hash(migration: Migration) -> str:
    return hashlib.sha256(str(migration.step).encode()).hexdigest()[:8]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_released_migration_is_never_changed_and_each_has_its_frozen_database(kind: Kind) -> None:
    """Who adds one adds its hash here and its databases: `python -m tests.upgrade.freeze`."""
    assert tuple(_hash(one) for one in kind.migrations) == RELEASED[kind.name]
    for version in range(1, len(kind.migrations) + 1):
        for name in (f"{kind.name}-v{version}.sql", f"story-v{version}.json"):
            assert (FROZEN / name).exists(), f"{name} is missing"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_migrations_still_make_what_they_made(kind: Kind, tmp_path: Path) -> None:
    """The frozen tables of each version are those that the migrations up to it make now."""
    made = sqlite3.connect(":memory:", isolation_level=None)
    with contextlib.closing(made):
        for version, migration in enumerate(kind.migrations, 1):
            made.execute("BEGIN")
            apply_migration(made, migration)
            made.execute("COMMIT")
            path = thaw(kind, version, tmp_path / str(version))
            with contextlib.closing(sqlite3.connect(path)) as frozen:
                assert _schema(frozen) == _schema(made), version


def _schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()


def test_every_version_goes_on() -> None:
    """Opened, interrupted now and then, taken into use; what is newer is refused."""
    row = upgrade(0, 0.02)
    assert row.failures == []
    assert row.times >= 25
    assert row.accepted > 500


def _sabotaged(step: Callable[[sqlite3.Connection], object], version: int) -> Row:
    """What is found when migrations also do this."""

    def apply(connection: sqlite3.Connection, migration: Migration) -> None:
        apply_migration(connection, migration)
        step(connection)

    return _judged(mock.patch.object(database, "apply_migration", apply), version)


def _judged(patch: contextlib.AbstractContextManager[object], version: int) -> Row:
    import tempfile

    row = Row("sabotaged")
    with tempfile.TemporaryDirectory() as name, patch:
        opens(KINDS[1], version, Path(name) / "opens", row)
        taken_into_use(version, Path(name) / "use", row)
    return row


def test_a_migration_that_forgets_rows_is_noticed() -> None:
    """The newest entry of the outbox, which waits for HQ."""

    def forget(connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("DELETE FROM act WHERE position = (SELECT max(position) FROM act)")

    assert any("act" in one for one in _sabotaged(forget, 2).lost)


def test_files_beside_the_databases_say_their_format(tmp_path: Path) -> None:
    """Settings, keys and the access file of a newer program are refused with a hint, untouched."""
    keys = keyring.create(tmp_path, at=1.0)
    chain = tmp_path / keyring.FOLDER_NAME / keyring.CHAIN_NAME
    assert keys.entries
    set_up(tmp_path / "till", 1)
    settings = read_agent_settings(tmp_path / "till")
    cases: list[tuple[Path, Callable[[], object]]] = [
        (chain, lambda: keyring.Keyring.load(tmp_path)),
        (
            tmp_path / "till" / KEY_NAME,
            lambda: read_key(tmp_path / "till", settings.identity, settings.root),
        ),
    ]
    for path, read in cases:
        read()
        newer = msgspec.json.decode(path.read_bytes()) | {"format": 99}
        path.write_bytes(msgspec.json.encode(newer))
        with pytest.raises(BusError) as refused:
            read()
        assert refused.value.hint
        assert msgspec.json.decode(path.read_bytes()) == newer
    access = msgspec.json.decode(encode_access(AccessFile(version=1, root="r")))
    with pytest.raises(WireError):
        decode_access(msgspec.json.encode(access | {"format": 99}))
