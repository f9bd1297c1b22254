"""What a chain does all day: HQ issues work, staff answer it, scripts report and raise alerts."""

import random

from tests.processes.chain import Chain

COMMAND_EVERY = 6
"""Each so many directives are issued by the command itself, the rest by what it calls."""


def work(chain: Chain, draw: random.Random) -> None:
    """Let HQ and the stores say things, whoever of them is up."""
    for _ in range(draw.randint(1, 2)):
        issue = chain.issue if len(chain.journal.directives) % COMMAND_EVERY else chain.publish
        some = draw.sample(chain.stores, max(1, len(chain.stores) // 2))
        issue(*draw.choice(((), (), some)), role=draw.choice(("any", "manager")))
    tills = draw.sample(list(chain.tills.values()), len(chain.tills))
    for till in tills[: draw.randint(1, 3)]:
        if draw.random() < 0.2:
            chain.report(till, draw.choice((3, 2000)))
        todo = [
            item
            for item in till.inbox()
            if item["open"] and item["directive"] not in chain.journal.withdrawn
        ]
        for item in draw.sample(todo, min(len(todo), 2)):
            chain.say(till, item, draw.choice(("read", "done")))
            if draw.random() < 0.3:
                chain.reply(till, item)
    for till in tills:
        chain.alert(till)


def finish(chain: Chain) -> None:
    """Do all the work there is, so that the end is one that every mailbox has reached."""
    for till in chain.tills.values():
        for item in till.inbox():
            if item["open"] and item["directive"] not in chain.journal.withdrawn:
                chain.say(till, item, "done")
