"""Damage that SQLite itself cannot see is found by the sums of rows, and told as damage."""

import sqlite3
from pathlib import Path

import pytest

from buskit.database import Database, DatabaseDamaged, Migration, open_database
from buskit.row_sums import row_sum

_NOTES = (
    "CREATE TABLE note (seq INTEGER PRIMARY KEY, text TEXT NOT NULL, at REAL NOT NULL,"
    " data BLOB, sum INTEGER NOT NULL DEFAULT 0)"
)
MIGRATIONS = (Migration("notes", _NOTES, sums=("note",)),)
TEXT = "a text that stands in the file as it is"


def open_notes(path: Path) -> Database:
    """A database with sums."""
    return open_database(
        path, MIGRATIONS, application_id=7, what="the notes", hint_create="", create=True,
        hint_damaged="mend it",
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with one note in it, and nothing beside it."""
    path = tmp_path / "notes.db"
    with open_notes(path) as notes:
        with notes.write() as connection:
            row = (1, TEXT, 5, None)
            connection.execute("INSERT INTO note VALUES (?, ?, ?, ?, ?)", (*row, row_sum(*row)))
        notes.check()
    return path


def spoil(path: Path, old: bytes, new: bytes) -> None:
    """Put other bytes in the place of some."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def test_a_sum_tells_values_apart_and_not_how_numbers_are_kept() -> None:
    """Where a value ends counts, and so does its kind; 5 and 5.0 are the same to SQLite as well."""
    rows = [("ab", "c"), ("a", "bc"), (b"ab", "c"), (None, "abc"), ("", "abc"), (1, 2), (12, None)]
    assert len({row_sum(*row) for row in rows}) == len(rows)
    assert row_sum(5, "x") == row_sum(5.0, "x")


def test_a_flipped_letter_is_found(path: Path) -> None:
    """SQLite's own check is content with it; the sum is not."""
    spoil(path, b"stands", b"stinds")
    with open_notes(path) as notes:
        assert notes.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with pytest.raises(DatabaseDamaged, match="1 rows of its table note") as caught:
            notes.check()
        notes.check(but_sums_of=("note",))
    assert caught.value.hint == "mend it"


def test_what_is_no_text_any_more_is_damage(path: Path) -> None:
    """Python cannot even decode it; people are told what that means."""
    spoil(path, b"stands", b"st\xffnds")
    with pytest.raises(DatabaseDamaged), open_notes(path) as notes:
        notes.connection.execute("SELECT text FROM note").fetchall()


def test_tables_that_are_not_ours_any_more_are_damage(path: Path) -> None:
    """A flipped letter in the name of a table, which SQLite takes for another table."""
    spoil(path, b"CREATE TABLE note ", b"CREATE TABLE nota ")
    with pytest.raises(DatabaseDamaged), open_notes(path) as notes:
        notes.connection.execute("SELECT text FROM note").fetchall()


def test_a_version_that_does_not_fit_the_tables_is_damage(path: Path) -> None:
    """Neither a newer program's file nor one to migrate: the header was spoilt."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 77")
    connection.close()
    with pytest.raises(DatabaseDamaged, match="header"):
        open_notes(path)


def test_a_mistake_of_the_program_is_not_called_damage(path: Path) -> None:
    """Where the file is whole, an error stays what it is."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"), open_notes(path) as notes:
        notes.connection.execute("SELECT * FROM nobody")
    with pytest.raises(ValueError, match="mine"), open_notes(path):
        raise ValueError("mine")
