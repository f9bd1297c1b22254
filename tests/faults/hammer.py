"""`python -m tests.faults.hammer KIND HOME NAME COUNT SECONDS`: writes into a database, on and on.

One of many processes that do so at the same time. What was accepted is printed once the call has
returned, one line each: that is the journal.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from buskit.doorbell import ring
from buswire.states import Needs
from hqconsole.audience import Selector, select
from hqconsole.home import new_id
from hqconsole.ledger import directives, organisation
from hqconsole.ledger.opening import open_ledger
from storeagent import Agent
from storeagent.database import database_path, open_agent_database

_EVERY = 20
"""Each so many writes there is a checkpoint in between."""


def _alerts(home: Path, name: str) -> Callable[[int], str]:
    """One opens the database anew each time, as a command does; another keeps it open."""
    kept = Agent(home) if name.endswith("kept") else None

    def write(number: int) -> str:
        what = f"{name}.{number}"
        if number % _EVERY == 0:
            with open_agent_database(database_path(home)) as database:
                database.checkpoint()
        if kept is not None:
            kept.alert("incident", what=what)
        else:
            with Agent(home) as agent:
                agent.alert("incident", what=what)
        return what

    return write


def _directives(home: Path, name: str) -> Callable[[int], str]:
    def write(number: int) -> str:
        with open_ledger(home) as ledger:
            if number % _EVERY == 0:
                ledger.checkpoint()
            with ledger.write() as connection:
                there = organisation.organisation(connection)
                issued = directives.issue(
                    connection,
                    directives.Draft(title=f"{name} {number}", needs=Needs.DONE),
                    select(Selector(everyone=True), there),
                    there,
                    at=time.time(),
                    new_id=new_id,
                )
        ring(home)
        return issued.id

    return write


def _names(home: Path, name: str) -> Callable[[int], str]:
    """Writes into the ledger what nobody has to hear of."""

    def write(number: int) -> str:
        with open_ledger(home) as ledger, ledger.write() as connection:
            connection.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?)", (f"{name}.{number}", number)
            )
        return f"{name}.{number}"

    return write


KINDS = {"alerts": _alerts, "directives": _directives, "names": _names}


def main() -> None:
    """Write until it is enough."""
    kind, home, name, count, seconds = sys.argv[1:]
    write = KINDS[kind](Path(home), name)
    until = time.monotonic() + float(seconds)
    for number in range(1, int(count) + 1):
        if time.monotonic() > until:
            break
        print(write(number), flush=True)


if __name__ == "__main__":
    main()
