"""What all tests of the store's side share."""

from collections.abc import Iterator
from typing import Any

import pytest

from buskit.database import Database


@pytest.fixture(autouse=True)
def _close_databases(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a test has left open, which newer Pythons complain of."""
    opened: list[Database] = []
    real = Database.__init__

    def remember(database: Database, *args: Any, **more: Any) -> None:
        real(database, *args, **more)
        opened.append(database)

    monkeypatch.setattr(Database, "__init__", remember)
    yield
    for database in opened:
        database.close()
