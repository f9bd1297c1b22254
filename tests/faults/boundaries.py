"""A story told again and again, in which one process dies at its first commit, its second, ...

Each step of the story is done with the switch of `buskit.crash_points` set to one point further
than the last time, until the process lives through the step: so it has died right before and right
after every commit, checkpoint, close and renaming that the step has. Each time it is started again
(a command: said again), and the step must come to its end all the same.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from buskit.crash_points import VARIABLE
from tests.faults import dying_commands as dying
from tests.faults.chains import Part, Tally, heard_again, on_its_way
from tests.faults.dying_commands import Dying
from tests.helpers.waiting import wait_until
from tests.processes.chain import Chain, Daemon, Till, rows

_MOST_POINTS = 40
"""A step has fewer; one that never ends must not run for ever."""

Done = Callable[[], object]
"""Whether a step has come to its end; asked again and again."""


Command = Callable[..., Dying]
"""Makes a command ready for a chain, each time another one."""


class Switch:
    """The file that says at which point a process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.environment = {VARIABLE: str(path)}

    def arm(self, number: int) -> None:
        """Let the process die at this point, counted from now."""
        unfinished = self._path.with_suffix(".new")
        unfinished.write_text(f"{number}\n")
        os.replace(unfinished, self._path)  # noqa: PTH105 - it may be read at this very moment

    def disarm(self) -> list[str]:
        """Let it live; the points it has passed, that of its death as the last."""
        passed = self._path.read_text().splitlines()[1:]
        self._path.unlink()
        return passed


@dataclass(frozen=True)
class Step:
    """One step of a daemon's life.

    Attributes:
        name: What happens.
        victim: Which daemon dies.
        act: Makes it happen, and returns how to see that it is over.
        stopped: Whether the daemon is down when it begins.
        ends: Whether it is over when the daemon has ended.
        prepares: Whether `act` only prepares it, and what it returns makes it happen.
    """

    name: str
    victim: Callable[[Chain], Daemon]
    act: Callable[[Chain], Any]
    stopped: bool = False
    ends: bool = False
    prepares: bool = False


def boundary_parts(seed: int, share: float) -> list[Part]:
    """The story in parts for chains side by side; of a small share only some steps."""
    draw = random.Random(seed)
    steps: list[Step | Command] = [*STEPS, *COMMANDS]
    if share < 1:
        some = max(1, round(len(STEPS) * share)), max(1, round(len(COMMANDS) * share))
        steps = [*draw.sample(STEPS, some[0]), *draw.sample(COMMANDS, some[1])]
    draw.shuffle(steps)
    parts = max(1, round(4 * share))
    return [partial(_tell, steps=steps[number::parts]) for number in range(parts)]


def _tell(
    chain: Chain, draw: random.Random, tally: Tally, *, steps: Sequence[Step | Command]
) -> None:
    del draw  # what happens is always the same
    for daemon in (chain.hub, _till(chain)):
        daemon.stop()
        daemon.environment = _switch_of(chain, daemon).environment
        daemon.start()
    chain.wait_arrived("S001", chain.alert(_till(chain)), seconds=45)  # both are up again
    for step in steps:
        if isinstance(step, Step):
            _die_in_step(chain, step, tally)
        elif step is dying.restore:
            _die_in_restore(chain, tally)
        else:
            _die_in_command(chain, partial(step, chain), tally)


def _switch_of(chain: Chain, daemon: Daemon) -> Switch:
    return Switch(chain.folder / f"{daemon.name}.crash")


def _die_in_step(chain: Chain, step: Step, tally: Tally) -> None:
    victim = step.victim(chain)
    switch = _switch_of(chain, victim)
    for number in range(1, _MOST_POINTS):
        chain.wait_settled()
        if step.stopped:
            victim.stop()
        act = step.act(chain) if step.prepares else partial(step.act, chain)
        switch.arm(number)
        is_over = act()
        wait_until(
            lambda over=is_over: victim.returncode is not None or over(),
            seconds=45,
            what=f"{step.name}, point {number}",
        )
        # It is seen to be over a moment before the process has passed the last point of it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            victim.wait(0.15)
        passed = switch.disarm()
        if len(passed) < number:
            assert victim.returncode in {None, 0}, f"{step.name}: {victim.said()[-1000:]}"
            if step.ends:
                victim.start()
            tally.wrong += [] if number > 1 else [f"{step.name} has no point to die at"]
            return
        code = victim.wait(10)
        assert code == -signal.SIGKILL, f"{step.name}: {code}, {victim.said()[-1000:]}"
        _note(tally, passed, "hub at a point" if victim is chain.hub else "agent at a point")
        began_at = time.monotonic()
        victim.start()
        heard_again(chain, _till(chain), began_at, tally)
        if not step.ends:
            wait_until(is_over, seconds=45, what=f"{step.name} after it died: {passed[-1]}")
    tally.wrong.append(f"{step.name} does not come to an end")


def _die_in_command(chain: Chain, make: Callable[[], Dying], tally: Tally) -> None:
    switch = Switch(chain.folder / "command.crash")
    for number in range(1, _MOST_POINTS):
        command = make()
        switch.arm(number)
        died = command.run(more=switch.environment)
        passed = switch.disarm()
        if not died:
            tally.wrong += [] if number > 1 else [f"{command.name} has no point to die at"]
            return
        _note(tally, passed, "command at a point")
    tally.wrong.append(f"{command.name} does not come to an end")


def _die_in_restore(chain: Chain, tally: Tally) -> None:
    """An older ledger comes back, with work since that only the stores still know."""
    chain.wait_settled()
    copy = chain.folder / "to-restore.db"
    chain.hq("backup", str(copy))
    chain.wait_state(chain.issue(), "delivered")
    chain.wait_settled()
    chain.hub.stop()
    _die_in_command(chain, partial(dying.restore, chain, copy), tally)
    chain.hub.start()
    chain.wait_settled(seconds=60)


def _note(tally: Tally, passed: Sequence[str], who: str) -> None:
    tally.times[who] += 1
    side, what, *_ = passed[-1].split()
    tally.boundaries[f"{side} {what}"] += 1


# --- the daemons' story --------------------------------------------------------------------------


def _till(chain: Chain) -> Till:
    return chain.till("S001")


def _hub(chain: Chain) -> Daemon:
    return chain.hub


def _all_there(chain: Chain) -> bool:
    return not on_its_way(chain)


def _issue(chain: Chain) -> Done:
    """A directive arrives, its receipt goes up and is acknowledged."""
    directive = chain.issue()
    return lambda: set(chain.states(directive).values()) == {"delivered"} and _all_there(chain)


def _alert(chain: Chain) -> Done:
    """An alert goes up and is acknowledged."""
    number = chain.alert(_till(chain))
    return lambda: chain.has_arrived("S001", number) and _all_there(chain)


def _report(chain: Chain) -> Done:
    key = chain.report(_till(chain), 2000)
    there = "SELECT 1 FROM report WHERE key = ? AND complete_at IS NOT NULL"
    return lambda: chain.rows(there, key) and _all_there(chain)


def _ready(chain: Chain) -> str:
    """Work that has arrived in the store."""
    directive = chain.issue("S001")
    chain.wait_state(directive, "delivered", seconds=45)
    chain.wait_settled()
    return directive


def _say_done(chain: Chain) -> Callable[[], Done]:
    """A statement that closes a delivery: the hub tells the store's other devices."""
    directive = _ready(chain)

    def act() -> Done:
        chain.say(_till(chain), _item(chain, directive), "done")
        return lambda: chain.states(directive) == {("S001", "any"): "done"} and _all_there(chain)

    return act


def _item(chain: Chain, directive: str) -> dict[str, Any]:
    """The work as the till shows it; empty if it does not."""
    items = [item for item in _till(chain).inbox() if item["directive"] == directive]
    return items[0] if items else {}


def _cancel(chain: Chain) -> Callable[[], Done]:
    directive = _ready(chain)

    def act() -> Done:
        chain.hq_here("cancel", directive)
        chain.note_cancel(directive)
        return lambda: _item(chain, directive)["state"] == "cancelled" and _all_there(chain)

    return act


def _expire(chain: Chain) -> Done:
    """A directive expires unanswered: HQ says so, to itself and to the store."""
    directive = chain.issue("S001", lasts_seconds=2.0)
    return lambda: (
        _item(chain, directive).get("open") is False
        and chain.states(directive) == {("S001", "any"): "expired"}
        and _all_there(chain)
    )


def _move(chain: Chain) -> Done:
    """A store changes its region, and its device hears other channels: by a snapshot."""
    chain.numbers += 1
    chain.import_roster(S001=f"region-{chain.numbers}")
    issued = _issue(chain)
    return lambda: _heard_of_move(chain) and issued()


def _heard_of_move(chain: Chain) -> bool:
    told = rows(_till(chain).home / "agent.db", "SELECT value FROM meta WHERE key = 'set_version'")
    there = chain.rows("SELECT set_seq FROM store WHERE id = 'S001'")[0][0]
    return bool(told) and json.loads(told[0][0])[0] == there


def _rotate(chain: Chain) -> Done:
    """HQ signs with another key, and everybody follows."""
    chain.hq_here("key", "rotate", "--overlap", "0s")
    issued, alerted = _issue(chain), _alert(chain)
    return lambda: issued() and alerted()


def _join(chain: Chain) -> Done:
    """A device joins while the hub dies under it."""
    failed: list[BaseException] = []

    def join() -> None:
        try:
            dying.join(chain).run()
        except BaseException as error:  # handed to the thread that waits
            failed.append(error)

    thread = threading.Thread(target=join)
    thread.start()

    def is_over() -> bool:
        if failed:
            raise failed[0]
        return not thread.is_alive()

    return is_over


def _start_till(chain: Chain) -> Done:
    """A device starts with an alert that waits and work that it has missed: a replay."""
    alerted, issued = _alert(chain), _issue(chain)
    _till(chain).start()
    return lambda: alerted() and issued()


def _start_till_elsewhere(chain: Chain) -> Done:
    """A device starts whose store has moved meanwhile: a snapshot."""
    moved = _move(chain)
    _till(chain).start()
    return moved


def _start_hub(chain: Chain) -> Done:
    """The hub starts with a directive and an alert that wait."""
    alerted, issued = _alert(chain), _issue(chain)
    chain.hub.start()
    return lambda: alerted() and issued()


def _hub_again(chain: Chain) -> Done:
    """An agent hears a new run of the hub."""
    chain.hub.kill()
    return _start_hub(chain)


def _stop(daemon: Daemon) -> Done:
    daemon.terminate()
    return lambda: daemon.returncode is not None


_OF_BOTH = (
    ("a directive arrives", _issue, False),
    ("an alert goes up", _alert, False),
    ("a report goes up", _report, False),
    ("work is done", _say_done, True),
    ("work is withdrawn", _cancel, True),
    ("work expires", _expire, False),
    ("a store moves", _move, False),
    ("HQ's key changes", _rotate, False),
)
STEPS = (
    *(Step(f"{what} (agent)", _till, act, prepares=two) for what, act, two in _OF_BOTH),
    *(Step(f"{what} (hub)", _hub, act, prepares=two) for what, act, two in _OF_BOTH),
    Step("a device joins (hub)", _hub, _join),
    Step("the hub starts anew (agent)", _till, _hub_again),
    Step("the agent starts: replay", _till, _start_till, stopped=True),
    Step("the agent starts: snapshot", _till, _start_till_elsewhere, stopped=True),
    Step("the hub starts", _hub, _start_hub, stopped=True),
    Step("the agent stops", _till, lambda chain: _stop(_till(chain)), ends=True),
    Step("the hub stops", _hub, lambda chain: _stop(chain.hub), ends=True),
)


# --- the commands' ------------------------------------------------------------------------------


def _cancel_command(chain: Chain) -> Dying:
    return dying.cancel(chain, _ready(chain))


def _done_command(chain: Chain) -> Dying:
    return dying.done(chain, _till(chain), _ready(chain), "any")


COMMANDS: tuple[Command, ...] = (
    dying.publish,
    _cancel_command,
    dying.roster_import,
    dying.device_add,
    dying.key_rotate,
    dying.key_recover,
    dying.backup,
    dying.restore,
    dying.init,
    dying.tls_init,
    dying.old_ledger,
    dying.old_device,
    dying.join,
    _done_command,
    lambda chain: dying.alert(chain, _till(chain)),
    lambda chain: dying.report(chain, _till(chain)),
)
