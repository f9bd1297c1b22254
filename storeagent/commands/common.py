"""What the verbs share: options that mean the same everywhere."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def by_option(command: F) -> F:
    """Add `--by`: who says it."""
    return click.option(
        "--by",
        default="",
        envvar="STOREBUS_BY",
        metavar="NAME",
        help="Who says it; $STOREBUS_BY if not given.",
    )(command)


def id_option(command: F) -> F:
    """Add `--id` (parameter `key`): the caller's own name for what is recorded."""
    return click.option(
        "--id",
        "key",
        metavar="TEXT",
        help="Your own name for it: said again with the same one, it is not recorded again.",
    )(command)
