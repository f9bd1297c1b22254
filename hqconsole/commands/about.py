"""What the verbs share that do something with one directive: finding it, and who may."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import click

from buskit.doorbell import ring
from hqconsole.commands.common import acting, operator, write_audit
from hqconsole.home import new_id
from hqconsole.ledger import directives, lifecycles
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import organisation
from hqconsole.ledger.views import SHORT_ID, directive_id
from hqconsole.organisation import Organisation

F = TypeVar("F", bound=Callable[..., Any])


def directive_argument(command: F) -> F:
    """Add the argument ID (parameter `directive`): how a directive's id begins."""
    return click.argument("directive", metavar="ID")(command)


@dataclass(frozen=True)
class About:
    """One directive in one transaction, for a verb that its operator may use on it.

    Attributes:
        connection: With a write transaction open.
        no: The directive's number.
        id: Its whole id.
        at: Unix time.
        by: The operator.
        author: Who wrote it.
    """

    connection: sqlite3.Connection
    no: int
    id: str
    at: float
    by: str
    author: lifecycles.Author

    @property
    def short_id(self) -> str:
        """As people see it."""
        return self.id[:SHORT_ID]

    @cached_property
    def organisation(self) -> Organisation:
        """Today's."""
        return organisation(self.connection)

    @property
    def sending(self) -> dict[str, Any]:
        """What sending and telling stores needs besides."""
        return {"at": self.at, "new_id": new_id}

    def audit(self, action: str, **detail: Any) -> None:
        """Record in the audit what was done with it; each verb owes that once."""
        write_audit(self.connection, action, directive=self.id, **detail)


@contextlib.contextmanager
def about(home: Path, directive: str, right: str, *, by_another: bool = False) -> Iterator[About]:
    """Work on a directive, if the operator may: the transaction is the block; the hub is rung.

    Args:
        home: Of head office.
        directive: How its id begins.
        right: One of `hqconsole.operators.RIGHTS`, held for its kind and its regions.
        by_another: Whether nobody may who wrote any of it.

    Raises:
        HqError: There is no such directive, or several.
        NotPermitted: The operator may not.
    """
    with open_ledger(home) as ledger:
        with ledger.read() as connection:
            no = directives.find(connection, directive)
            author = lifecycles.author(connection, no)
            regions = lifecycles.regions(connection, no)
            writers = lifecycles.writers(connection, no)
        for writer in sorted(writers) if by_another else [None]:
            acting(home, right, kind=author.kind, regions=regions, author=writer)
        with ledger.write() as connection:
            yield About(
                connection,
                no,
                directive_id(connection, no),
                time.time(),
                operator(),
                author,
            )
    ring(home)
