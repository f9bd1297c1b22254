"""`roster assign`: say which roles a device serves."""

from collections.abc import Sequence
from pathlib import Path

import click

from buskit.cli import home_option
from buskit.doorbell import ring
from buskit.terminal import narrate
from buswire.names import identifier, slug
from hqconsole.commands.common import acting_on, write_audit
from hqconsole.home import new_id
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import assign_roles


@click.command()
@click.argument("store")
@click.argument("device")
@click.option("--role", "roles", multiple=True, help="A role that works at it; several add up.")
@click.option("--all-roles", is_flag=True, help="All roles of the store, also later ones.")
@home_option("hq")
def assign(store: str, device: str, roles: Sequence[str], all_roles: bool, home: Path) -> None:
    """Say which of its store's roles a device serves that was added (hq device add).

    \b
    Examples:
      hq roster assign S017 till-1 --role clerk
      hq roster assign S017 office --role manager --role warehouse
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if bool(roles) == all_roles:
        raise click.UsageError("give --role, or --all-roles")
    wanted = None if all_roles else [slug(role, "role") for role in roles]
    with open_ledger(home) as ledger:
        acting_on(home, ledger, "roster", [store])
        with ledger.write() as connection:
            assign_roles(
                connection,
                store,
                identifier(device, "device"),
                wanted,
                new_id=new_id,
            )
            write_audit(
                connection,
                "roster assign",
                device=f"{store}.{device}",
                roles="all" if wanted is None else wanted,
            )
        ring(home)
    serves = "all its roles" if wanted is None else ", ".join(wanted)
    narrate(f"{device} of store {store} serves {serves}")
