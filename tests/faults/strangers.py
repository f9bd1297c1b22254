"""What strangers and bad members do to the bus: forgeries, malformed packets, floods."""

import itertools
from collections.abc import Iterator
from random import Random

from broker.limits import MIB, Limits
from tests.faults.rows import Row
from tests.forgery import story
from tests.forgery.test_forgery import watched
from tests.isolation import engines
from tests.isolation.suite import Suite
from tests.isolation.world import access
from tests.malformed import cases, websocket
from tests.malformed.cases import Case
from tests.malformed.drive import Driver
from tests.malformed.flood import feel
from tests.malformed.target import Target

_ROUNDS = 3
"""Of floods; what else the machine does at the same time is not the broker's doing."""


def isolation(seed: int, share: float) -> Row:
    """Who may do what; `tests.isolation`. It draws nothing."""
    del seed, share
    engine = engines.ENGINES[engines.chosen()]()
    engine.start(access())
    try:
        tally = Suite(engine, patience_seconds=5.0).run()
    finally:
        engine.stop()
    wrong = [*itertools.chain(*tally.leaks.values()), *itertools.chain(*tally.denials.values())]
    leaks = sum(map(len, tally.leaks.values()))
    note = f"{leaks} leaks, engine {engines.chosen()}"
    return Row("isolation", tally.checks.total(), wrong=wrong + tally.unproven, note=note)


def forgery(seed: int, share: float) -> Row:
    """Every message of the story forged, whole stories long; `tests.forgery`."""
    row = Row("forgery", 0)
    for number in range(max(1, round(3 * share))):
        watch = watched(seed + number, most=12)
        row.times += watch.forged.total()
        row.wrong += watch.believed
        row.wrong += [f"no {kind} had an effect" for kind in story.KINDS - watch.effective]
    row.note = f"{len(row.wrong)} accepted"
    return row


def malformed(seed: int, share: float) -> Row:
    """Malformed MQTT by the hundred thousand; `tests.malformed`."""
    row = Row("malformed MQTT", 0)
    random = Random(seed)
    most = round(200_000 * share)
    with Target() as target:
        attacker = Driver(target.port, target.websocket_port)
        attacker.run(itertools.islice(_malformed(random), 3_000))  # what is made on first use
        descriptors = target.descriptors()
        row.memory.append(target.resident_bytes() / MIB)
        while attacker.report.cases < most and not attacker.report.wrong and not row.wrong:
            attacker.run(itertools.islice(_malformed(random), 9_000))
            attacker.run_wrapped(itertools.islice(_malformed(random), 500), random)
            attacker.run_garbage(_garbage(random))
            row.memory.append(target.resident_bytes() / MIB)
            row.wrong += _in_log(target.log())
        row.times = attacker.report.cases
        row.wrong += attacker.report.wrong
        if not target.is_up:
            row.wrong.append("the broker is gone")
        if target.descriptors() > descriptors + 3:
            row.wrong.append(f"{target.descriptors()} descriptors, {descriptors} before")
        row.note = ", ".join(f"{n} {what}" for what, n in attacker.report.verdicts.most_common())
        attacker.close()
    return row


def _malformed(random: Random) -> Iterator[Case]:
    """Of all kinds, without end."""
    while True:
        yield from cases.crafted(random)
        yield from itertools.islice(cases.truncated(random), 200)
        yield from itertools.islice(cases.mutated(random), 2_500)


def _garbage(random: Random) -> Iterator[Case]:
    yield from websocket.garbage(random)
    session = websocket.REQUEST + websocket.wrapped(next(cases.mutated(random)), random)
    for _ in range(400):
        yield websocket.mutated(random, session)


def _in_log(log: str) -> list[str]:
    """What must not be in a broker's log, whatever it was sent."""
    found = [at for at in (log.find("Traceback"), log.find("defect")) if at >= 0]
    return [f"in the log: {log[max(0, min(found) - 500) :][:4000]}"] if found else []


def floods(seed: int, share: float) -> Row:
    """What another client feels of bad connections: none, 300 a second, as many as can be."""
    del seed
    limits = Limits()
    row = Row("floods", 0)
    rates = {"quiet": None, "300/s": 300.0, "flood": 0.0}
    best: dict[str, float] = dict.fromkeys(rates, float("inf"))
    with Target(
        strangers_per_second=limits.strangers_per_second, strangers_burst=limits.strangers_burst
    ) as target:
        row.memory.append(target.resident_bytes() / MIB)
        for name, per_second in [*rates.items()] * _ROUNDS:
            felt = feel(target.port, per_second=per_second, seconds=10.0 * share)
            best[name] = min(best[name], felt.p99_ms)
            row.times += felt.opened
            row.memory.append(target.resident_bytes() / MIB)
            if felt.received < felt.sent:
                row.wrong.append(f"{name}: {felt}")
        if "too many connections" not in target.log():
            row.wrong.append("the flood was not refused")
        row.wrong += _in_log(target.log())
    row.note = "p99 " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in best.items())
    row.note += f", each the best of {_ROUNDS}"
    if best["300/s"] > 100:
        row.wrong.append(f"at 300 bad connections a second p99 is {best['300/s']:.1f} ms")
    return row
