"""`retry`: what was put aside is asked for again, such as after an upgrade."""

from pathlib import Path

import click

from buskit.cli import home_option
from buskit.doorbell import ring
from buskit.terminal import narrate
from storeagent.database import database_path, open_agent_database
from storeagent.inbox import Inbox
from storeagent.memory import ASK_ANEW, Memory


@click.command()
@home_option("agent")
def retry(home: Path) -> None:
    """Forget what was put aside, and have head office show all open work again.

    What this version could not process is tried again by it. A new version does so by itself when
    it starts. Nothing that was said or done here is touched.
    """
    with open_agent_database(database_path(home)) as database, database.write():
        forgotten = Inbox(database).forget_asides()
        Memory(database).keep(ASK_ANEW, 1)
    ring(home)
    narrate(f"{forgotten} things are forgotten; head office is asked for all open work")
