"""A head office and a store's device in one process, whose messages are carried by hand."""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buswire.topics import Identity, Topics
from hqconsole import desk as hq
from hqconsole.commands.main import main as hq_main
from hqconsole.ledger.opening import open_ledger
from storeagent import core as agent
from storeagent.database import database_path, open_agent_database
from storeagent.main import main as agent_main

ROSTER = "store_id,name,region,timezone,roles\nS1,One,East,UTC,manager\nS2,Two,East,UTC,manager\n"


class Chain:
    """Both command lines, and a wire between the two databases."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.hq_home = folder / "hq"
        self.device_home = folder / "device"
        self._capsys = capsys

    def hq(self, *words: str) -> Any:
        """Run `hq`; what it wrote as JSON, or None."""
        return self._run(hq_main.run, "hq", self.hq_home, words)

    def device(self, *words: str) -> Any:
        """Run `storeagent`; what it wrote as JSON, or None."""
        return self._run(agent_main.run, "storeagent", self.device_home, words)

    def _run(self, run: Callable[..., int], name: str, home: Path, words: tuple[str, ...]) -> Any:
        code = run([*words, "--home", str(home)], name)
        said = self._capsys.readouterr()
        assert code == 0, said.err
        return json.loads(said.out.splitlines()[0]) if "--json" in words else None

    def carry(self) -> None:
        """Let the hub and the daemon talk until both have nothing left to say."""
        new_id = lambda: os.urandom(16).hex()  # noqa: E731 - the same for both
        draw = random.Random(1).random
        with (
            open_ledger(self.hq_home) as ledger,
            open_agent_database(database_path(self.device_home)) as database,
        ):
            topics = Topics()
            desk = hq.Desk(ledger, topics, draw=draw, new_id=new_id, wall_clock=time.time)
            device = agent.AgentCore(
                database,
                Identity("S1", "till-1"),
                topics,
                draw=draw,
                new_id=new_id,
                wall_clock=time.time,
                roles=["manager"],
            )
            up: list[hq.Event] = [hq.Linked()]
            down: list[agent.Event] = [agent.Linked()]
            for now in range(1000, 1060):
                published = desk.handle(up, float(now))
                down += [
                    agent.Heard(one.topic, one.payload)
                    for one in published
                    if topics.parse(one.topic).kind != "heads"
                ]
                said = device.handle(down, float(now))
                up = [hq.Heard(o.topic, o.payload) for o in said if isinstance(o, agent.Publish)]
                up.append(hq.Tick())
                down = [agent.Rang()]


@pytest.fixture
def chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Chain:
    """Two stores, and a device in the first."""
    made = Chain(tmp_path, capsys)
    (tmp_path / "stores.csv").write_text(ROSTER, encoding="utf-8")
    made.hq("init")
    made.hq("roster", "import", str(tmp_path / "stores.csv"))
    made.device("init", "--store", "S1", "--device", "till-1", "--role", "manager")
    made.carry()
    return made
