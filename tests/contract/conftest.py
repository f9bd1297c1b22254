"""A head office and a store's device in one process, whose messages are carried by hand."""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buskit.database import Database
from buswire.joining import decode_bundle
from buswire.topics import Identity, Topics
from hqconsole import desk as hq
from hqconsole.commands.main import main as hq_main
from hqconsole.desk import Desk
from hqconsole.keyring import Keyring
from hqconsole.ledger.opening import open_ledger
from storeagent import core as agent
from storeagent.database import database_path, open_agent_database
from storeagent.join_home import JoinHome
from storeagent.joining import Joining
from storeagent.keys import read_key
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

    def join(self, bundle: Path) -> None:
        """Do with a bundle what `storeagent join` does, without a broker."""
        place = JoinHome(self.device_home, decode_bundle(bundle.read_bytes()))
        place.make()
        draft = place.prepare()
        joining = Joining(place.bundle, draft, new_id=new_id, machine="PC-1")
        with open_ledger(self.hq_home) as ledger:
            desk = self._desk(ledger)
            desk.handle([hq.Linked()], 1000.0)
            answers = desk.handle([hq.Heard(joining.topic, joining.ask())], 1001.0)
        joined = [joining.hear(one.topic, one.payload) for one in answers]
        assert joined[0] is not None
        assert joined[0].verdict == "accepted"
        place.finish(draft, certificate=joined[0].certificate)

    def _desk(self, ledger: Database) -> Desk:
        return Desk(
            ledger,
            Topics(),
            keyring=Keyring.load(self.hq_home),
            draw=random.Random(1).random,
            new_id=new_id,
            wall_clock=time.time,
        )

    def carry(self) -> None:
        """Let the hub and the daemon talk until both have nothing left to say."""
        identity = Identity("S1", "till-1")
        with (
            open_ledger(self.hq_home) as ledger,
            open_agent_database(database_path(self.device_home)) as database,
        ):
            topics = Topics()
            desk = self._desk(ledger)
            key = read_key(self.device_home, identity, topics.root)
            device = agent.AgentCore(
                database,
                identity,
                topics,
                key=key.signing_key,
                trust=key.trust,
                draw=random.Random(2).random,
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


def new_id() -> str:
    """A random id."""
    return os.urandom(16).hex()


@pytest.fixture
def chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Chain:
    """Two stores, and a device in the first."""
    made = Chain(tmp_path, capsys)
    (tmp_path / "stores.csv").write_text(ROSTER, encoding="utf-8")
    made.hq("init")
    made.hq("roster", "import", str(tmp_path / "stores.csv"))
    bundle = tmp_path / "bundle"
    made.hq("device", "add", "S1", "till-1", "--roles", "manager", "-o", str(bundle))
    made.join(bundle)
    made.carry()
    return made
