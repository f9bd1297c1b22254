"""`--archive FILE`: what a verb reads from an archive instead of the ledger."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from hqconsole.ledger import archived, directives
from hqconsole.ledger.opening import open_ledger

F = TypeVar("F", bound=Callable[..., Any])


def archive_option(command: F) -> F:
    """Add `--archive` (parameter `archive_file`)."""
    return click.option(
        "--archive",
        "archive_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Read it from this archive, which hq archive has made.",
    )(command)


@contextlib.contextmanager
def reading(home: Path, archive_file: Path | None) -> Iterator[sqlite3.Connection]:
    """Read the ledger of a home as it is at one moment, or an archive.

    Raises:
        DatabaseError: It cannot be read.
    """
    if archive_file is not None:
        from hqconsole.ledger import archive_files  # noqa: PLC0415 - few read one

        with archive_files.reading(archive_file) as connection:
            yield connection
        return
    with open_ledger(home) as ledger, ledger.read() as connection:
        yield connection


def find_here(connection: sqlite3.Connection, directive: str, command: str) -> int:
    """The number of a directive whose deliveries and answers are here.

    Args:
        connection: Of the ledger, or of an archive.
        directive: How its id begins.
        command: What is asked of it, for the hint where it can be asked of an archive.

    Raises:
        HqError: There is no such directive, or they left for an archive.
    """
    no = directives.find(connection, directive)
    archived.require_here(connection, no, command)
    return no
