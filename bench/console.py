"""What an operator waits for: the verbs of `hq` at a chain of 25,000 stores, each a process.

The chain has a past (`bench.past`), no hub runs, and each command starts cold, as a person starts
it. What `publish` writes stays for the commands behind it. The ratio is to `hq --help` in the same
run: what there is beside starting Python.
"""

import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Aim, Figure, Setting, median
from bench.past import Past, past
from bench.processes import output

_STORES = 25_000
_AIM = Aim("figure", "at most", 1, "s")
_DUE = ("--kind", "task", "--due", "Friday 18:00")
_WAVES = ("--waves", "10,50", "--done-percent", "90", "--within", "24h")
_WHERE = "format=flagship and area_sqm>800"


def run(setting: Setting) -> Sequence[Figure]:
    """Measure all of them in turns."""
    made = past(setting.folder / "hq", setting.pick(_STORES, _STORES // 10), say=setting.say)
    return measure(made, setting)


def measure(made: Past, setting: Setting) -> list[Figure]:
    """Measure what an operator does at a chain that is there."""
    turns = setting.pick(5, 1)
    helps: list[float] = []
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for turn in range(turns):
        setting.say(f"turn {turn + 1} of {turns}")
        helps.append(_timed(("--help",), made.home)[0])
        for name, words in _verbs(made, setting.folder).items():
            took, used = _timed(words, made.home)
            seconds.setdefault(name, []).append(took)
            cpu.setdefault(name, []).append(used)
    return [
        Figure(
            f"console.{name}",
            "hq " + _shown(words, made),
            median(seconds[name]),
            "s",
            median(seconds[name]) / median(helps),
            _AIM if name.split(".")[0] in _PROMISED else None,
            {"cpu_seconds": round(median(cpu[name]), 3), "help_seconds": round(median(helps), 3)},
        )
        for name, words in _verbs(made, setting.folder).items()
    ]


_PROMISED = frozenset({"publish", "status", "who", "why", "search"})


def _verbs(made: Past, folder: Path) -> dict[str, tuple[str, ...]]:
    """What is measured: a name, and the words of the command."""
    one, store = made.directive[:8], made.store
    publish = ("publish", "Winter windows", "--all", *_DUE)
    return {
        "publish": publish,
        "publish.where": ("publish", "Big stores", "--where", _WHERE, *_DUE),
        "publish.local": (*publish, "--at", "Monday 06:00", "--local"),
        "publish.waves": (*publish, "--pilot", "S00001", "--pilot", store, *_WAVES),
        "status": ("status",),
        "status.one": ("status", one),
        "status.by": ("status", one, "--by", "region"),
        "who": ("who", one),
        "who.overdue": ("who", one, "--overdue"),
        "why": ("why", store, one),
        "search": ("search", "freezer", "labels"),
        "search.chinese": ("search", "海报"),
        "search.region": ("search", "lot 77*", "--region", "region-07"),
        "cannot": ("cannot", one),
        "board": ("board", "--once"),
        "handover": ("handover", store, "manager"),
        "export": ("export", "deliveries", one, "--to", str(folder / "deliveries.csv")),
    }


def _timed(words: Sequence[str], home: Path) -> tuple[float, float]:
    """Run one command. Returns its seconds, and those of CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    output("hq", *words, *(() if words == ("--help",) else ("--home", str(home))))
    took = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _shown(words: Sequence[str], made: Past) -> str:
    """The command as a person types it."""
    short = [
        "ID" if word == made.directive[:8] else "FILE" if os.sep in word else word for word in words
    ]
    return " ".join(f"'{word}'" if " " in word else word for word in short)
