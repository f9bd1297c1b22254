"""A broker in wrong hands says everything again: later, out of order, after all restarts.

Between each device and the broker, and between the hub and the broker, stands one who keeps every
message that passes and says it again, many times. What takes effect is counted outside: by what the
hook of each device wrote down, by rows of the ledger, and by each device's inbox.
"""

import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from statistics import median

from storeagent.alerts import check_alert, encode_alert
from storeagent.database import database_path, open_agent_database
from storeagent.outbox import Outbox
from storeagent.scripts import random_id
from tests.faults.chains import judge
from tests.faults.hooked import Hooked, name_of
from tests.faults.network import PATIENCE_SECONDS, recovery, work
from tests.faults.rows import Row
from tests.faults.watching import grew, resident_mib
from tests.net.reach import HUB, ReachedChain
from tests.net.replayer import Kept, Replayer, Tape
from tests.processes.chain import Daemon, Till

STORES = ("S001", "S002", "S003")
RECORDS = 1_000_000
_ALERTS = 4_000
"""Of each device: eight messages of 500 records."""
_DIRECTIVES = 120
ROUNDS = 24
_WARM_ROUNDS = 5
"""After so many, pools are as large as they get."""
INCIDENTS_MOST = 40
PUT_ASIDE_MOST = 60
_DEARER_MOST = 3.0
"""By so much a message may cost more in the end; others use this machine as well."""
_REST_SECONDS = 1.0
_BUSY_MOST = 0.5


def cpu_seconds(pid: int) -> float:
    """How much of a processor a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def duplicates(seed: int, share: float) -> Row:
    """Everything again, until a million records have passed a second time."""
    row = Row("duplicates")
    draw = Random(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        ReachedChain(Path(folder), STORES, new_proxy=Replayer) as chain,
    ):
        flood = Flood(chain, draw, row, size=min(1.0, 4 * share))
        flood.prepare()
        rounds = max(5, round(ROUNDS * min(1.0, 3 * share)))
        for number in range(rounds):
            flood.strike(round(RECORDS * share) * (number + 1) // rounds)
            flood.look(number)
        row.times = flood.again
        judge(chain, row, seconds=PATIENCE_SECONDS)
        flood.judge()
        row.note = flood.note()
    return row


class Flood:
    """The whole of it, on one chain whose proxies are replayers."""

    def __init__(self, chain: ReachedChain, draw: Random, row: Row, *, size: float) -> None:
        self.chain = chain
        self.draw = draw
        self.row = row
        self.size = size
        self._hooked = Hooked(chain.folder)
        self._cpu: dict[str, list[float]] = {}
        self._memory: dict[str, list[float]] = {}
        self._restarts: Counter[str] = Counter()

    @property
    def again(self) -> int:
        """How many records have passed a second time or more."""
        return sum(tape.again for tape in self._tapes())

    def _tapes(self) -> list[Tape]:
        return [self._replayer(name).tape for name in self.chain.proxies]

    def _replayer(self, name: str) -> Replayer:
        proxy = self.chain.proxies[name]
        assert isinstance(proxy, Replayer)
        return proxy

    # --- what there is to say again --------------------------------------------------------------

    def prepare(self) -> None:
        """Much is said once, in long messages, while all is well."""
        chain = self.chain
        for till in chain.tills.values():
            till.stop()
            self._hooked.install(till)
            self._fill(till, round(_ALERTS * self.size))
        for _ in range(max(3, round(_DIRECTIVES * self.size))):
            chain.issue()
        for till in chain.tills.values():
            till.start()
        chain.wait_settled(seconds=60)

    def _fill(self, till: Till, count: int) -> None:
        """Alerts by the thousand, in one transaction; the journal knows each by its number."""
        chain = self.chain
        with open_agent_database(database_path(till.home)) as database, database.write():
            outbox = Outbox(database)
            for _ in range(count):
                chain.numbers += 1
                number = f"number {chain.numbers}"
                fields = check_alert("incident", {"what": number})
                data = encode_alert("incident", fields, note="", by="")
                outbox.add("act", random_id(), "alert", data, said_at=time.time())
                chain.journal.said[till.store, "alert", number] += 1

    # --- saying it again -------------------------------------------------------------------------

    def strike(self, until: int) -> None:
        """Say again, to everybody, until so many records have passed again; then look who lives."""
        chain, draw = self.chain, self.draw
        work(chain, draw)
        self._disturb()
        before = {daemon.name: cpu_seconds(daemon.pid) for daemon in chain.daemons}
        messages = self._messages()
        while self.again < until:
            for name in chain.proxies:
                replayer = self._replayer(name)
                # Towards a client the broker's own limits do not hold: it is the one who does it.
                self._say(replayer, replayer.tape.down, 30 if name == HUB else 60)
                self._say(replayer, replayer.tape.up, 8, up=True)
        self.row.recovered(recovery(chain, [HUB], self.row))
        more = max(1, self._messages() - messages)
        for daemon in chain.daemons:
            seconds = cpu_seconds(daemon.pid) - before[daemon.name]
            self._cpu.setdefault(daemon.name, []).append(seconds * 1e6 / more)

    def _messages(self) -> int:
        return sum(tape.messages_again for tape in self._tapes())

    def _say(self, replayer: Replayer, tape: list[Kept], most: int, *, up: bool = False) -> None:
        """Some of a tape: in order or not, and often the same ones several times."""
        draw = self.draw
        if not tape:
            return
        begin = draw.randrange(len(tape))
        chosen = tape[begin : begin + most] if draw.random() < 0.4 else draw.choices(tape, k=most)
        if draw.random() < 0.3:
            chosen = chosen[::-1]
        if draw.random() < 0.5:
            long = [one for one in tape if one.records > 20]
            chosen = chosen + draw.choices(long, k=most // 2) if long else chosen
        replayer.say_again(chosen, up=up)

    def _disturb(self) -> None:
        """Before some floods a connection ends, or somebody is started again."""
        chain, draw = self.chain, self.draw
        what = draw.choice(("nothing", "cut", "agent", "hub", "broker"))
        if what == "cut":
            chain.proxies[draw.choice(list(chain.proxies))].cut(by_reset=draw.random() < 0.5)
        elif what == "agent":
            till = draw.choice(list(chain.tills.values()))
            self._hooked.wait(till)
            self._restart(till)
        elif what == "hub":
            self._restart(chain.hub)
        elif what == "broker":
            chain.bus.kill()
            chain.bus.start()
        self._restarts[what] += 1
        try:
            recovery(chain, [HUB], self.row)
        except AssertionError as error:
            self.row.wrong.append(str(error))

    def _restart(self, daemon: Daemon) -> None:
        if self.draw.random() < 0.5:
            daemon.kill()
        else:
            daemon.stop()
        daemon.start()
        self._memory.pop(daemon.name, None)

    # --- what came of it -------------------------------------------------------------------------

    def look(self, number: int) -> None:
        """Sample memory and work of each process; the first rounds fill pools."""
        if number < min(_WARM_ROUNDS, 2):
            return
        for daemon in self.chain.daemons:
            self._memory.setdefault(daemon.name, []).append(resident_mib(daemon.pid))

    def judge(self) -> None:
        """Hold what the hooks wrote down, the incidents and the processes against what may be."""
        chain, row = self.chain, self.row
        run = self._hooked.runs()
        wanted = {name_of(till, one) for till in chain.tills.values() for one in till.inbox()}
        row.twice += [f"the hook for {one}, {n} times" for one, n in run.items() if n > 1]
        row.wrong += [f"a hook for {one}, which nobody issued" for one in run.keys() - wanted]
        ((incidents,),) = chain.rows("SELECT count(*) FROM incident")
        ((put_aside,),) = chain.rows("SELECT count(*) FROM quarantine")
        if incidents > INCIDENTS_MOST or put_aside > PUT_ASIDE_MOST:
            row.wrong.append(f"{incidents} incidents, {put_aside} messages put aside")
        self._incidents = incidents
        for name, samples in self._memory.items():
            if len(samples) > 2 and grew(samples):
                row.wrong.append(f"memory of {name}: {samples[0]:.0f} to {samples[-1]:.0f} MiB")
        row.memory = self._memory.get(HUB, [])
        self._look_at_rest()
        for name, samples in self._cpu.items():
            third = len(samples) // 3
            if third and median(samples[-third:]) > _DEARER_MOST * median(samples[:third]):
                first, last = median(samples[:third]), median(samples[-third:])
                row.wrong.append(f"{name} spent {first:.0f} us on a message, then {last:.0f}")

    def _look_at_rest(self) -> None:
        """When nothing is said again any more, nobody is busy with it."""
        daemons = list(self.chain.daemons)
        before = {daemon.name: cpu_seconds(daemon.pid) for daemon in daemons}
        time.sleep(_REST_SECONDS)
        for daemon in daemons:
            busy = (cpu_seconds(daemon.pid) - before[daemon.name]) / _REST_SECONDS
            if busy > _BUSY_MOST:
                self.row.wrong.append(f"{daemon.name} is busy by {busy:.0%} when all is quiet")

    def note(self) -> str:
        """What else there is to say."""
        messages = self._messages()
        cost = median(self._cpu[HUB])
        restarts = ", ".join(f"{n} {what}" for what, n in sorted(self._restarts.items()))
        return (
            f"{messages:,} messages said again; before: {restarts};"
            f" {self._hooked.runs().total()} hook runs, {self._incidents} incidents;"
            f" the hub spends {cost:.0f} us on a message"
        )
