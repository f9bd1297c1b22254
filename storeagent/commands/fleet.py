"""`fleet`: many light devices in one process; hidden, for demonstrations and load."""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click
import msgspec

from buskit.terminal import Sheet
from buswire.device import Timing
from buswire.errors import WireError
from buswire.names import identifier
from buswire.states import State
from buswire.topics import DEFAULT_ROOT, Identity
from buswire.trust import Trust, Trusted
from storeagent.errors import InvalidEntry
from storeagent.fleet import Fleet, FleetSettings, Member, Totals
from storeagent.keys import seed_of
from storeagent.settings import DEFAULT_BROKER

_ANSWERS = {
    "read": State.READ,
    "start": State.IN_PROGRESS,
    "done": State.DONE,
    "cannot": State.CANNOT,
}


@click.command(hidden=True)
@click.option("--broker", "brokers", multiple=True, default=[DEFAULT_BROKER], metavar="URL")
@click.option("--root", default=DEFAULT_ROOT)
@click.option(
    "--keys",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The devices with their keys, as head office writes them: hq device add --fleet FILE.",
)
@click.option("--answer", default="", help="What is said to work: read,start,done or cannot.")
@click.option("--within", "within_seconds", default=5.0, show_default=True, type=float)
@click.option("--cannot-ratio", default=0.0, type=click.FloatRange(0, 1))
@click.option("--reply-ratio", default=0.0, type=click.FloatRange(0, 1))
@click.option("--alerts-per-second", default=0.0, type=click.FloatRange(0))
@click.option("--connects-per-second", default=200.0, type=click.FloatRange(0.1))
@click.option("--qos", default=0, type=click.IntRange(0, 1))
@click.option("--seed", default=1)
@click.option("--time-scale", default=1.0, type=click.FloatRange(0.001), help="Of all waits.")
@click.option("--beat-seconds", type=click.FloatRange(0.1), help="How often each says hello.")
@click.option("--every", "every_seconds", default=1.0, type=click.FloatRange(0.05))
def fleet(
    *,
    brokers: Sequence[str],
    root: str,
    keys: Path,
    answer: str,
    within_seconds: float,
    cannot_ratio: float,
    reply_ratio: float,
    alerts_per_second: float,
    connects_per_second: float,
    qos: int,
    seed: int,
    time_scale: float,
    beat_seconds: float | None,
    every_seconds: float,
) -> None:
    """Run many light devices in this process; one JSON line of totals every second.

    Their databases are in memory and end with the process. SIGTERM or Ctrl-C ends it with a last
    line, in which "final" is true.

    The devices must be known to head office, which makes them all at once, for benchmarks and
    trials only, because it then knows their private keys:

    \b
      hq device add --fleet FILE ...
      storeagent fleet --keys FILE --broker URL

    FILE has JSON Lines: first {"trust": ...}, then for each device
    {"store": ..., "device": ..., "seed": ..., "token": ...}, and "roles" where it serves some.
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    trust, members = _read(keys)
    waits = {one.name: getattr(Timing(), one.name) * time_scale for one in fields(Timing)}
    if beat_seconds is not None:
        waits["beat_seconds"] = beat_seconds
    try:
        answers = tuple(_ANSWERS[word] for word in answer.split(",") if word)
    except KeyError as error:
        raise click.BadParameter(f"{error} is none of {', '.join(_ANSWERS)}") from None
    _raise_descriptor_limit()
    running = Fleet(
        members,
        FleetSettings(
            brokers=tuple(brokers),
            root=root,
            trust=trust,
            qos=qos,
            connects_per_second=connects_per_second,
            answers=answers,
            within_seconds=within_seconds,
            cannot_ratio=cannot_ratio,
            reply_ratio=reply_ratio,
            alerts_per_second=alerts_per_second,
            seed=seed,
            timing=Timing(**waits),
        ),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.stop())
    sheet = Sheet()

    def tell(totals: Totals, *, final: bool = False) -> None:
        sheet.json_line({"at": time.time(), **asdict(totals), "final": final})

    final = running.run(tell, every_seconds=every_seconds)
    tell(final, final=True)


def _read(path: Path) -> tuple[Trusted, list[Member]]:
    trust: Trusted | None = None
    members: dict[Identity, Member] = {}
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
            if trust is None:
                trust = msgspec.convert(found["trust"], Trusted)
                Trust(trust)
                continue
            member = _member(found)
        except (ValueError, KeyError, TypeError, WireError) as error:
            what = "names no device with its key" if trust else "does not say whom to trust"
            raise InvalidEntry(f"line {line} of {path} {what}: {error}") from None
        if member.identity in members:
            raise InvalidEntry(f"line {line} of {path} names {member.identity} again")
        members[member.identity] = member
    if trust is None or not members:
        raise InvalidEntry(f"{path} names no device")
    return trust, list(members.values())


def _member(found: dict[str, Any]) -> Member:
    return Member(
        Identity(identifier(found["store"], "store"), identifier(found["device"], "device")),
        seed=seed_of(found["seed"]),
        token=str(found["token"]),
        roles=tuple(str(role) for role in found.get("roles", [])),
    )


def _raise_descriptor_limit() -> None:
    """Have as many descriptors as the system grants: each device takes one."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - there is none on Windows, nor such a limit

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
