"""`fleet`: many light devices in one process; hidden, for demonstrations and load."""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import click

from buskit.terminal import Sheet
from buswire.device import Timing
from buswire.errors import WireError
from buswire.names import identifier, new_identifier
from buswire.states import State
from buswire.topics import DEFAULT_ROOT, Identity
from storeagent.errors import InvalidEntry
from storeagent.fleet import Fleet, FleetSettings, Member, Totals
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
    "--identities",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON Lines of {"store": ..., "device": ..., "roles": [...]}.',
)
@click.option("--count", type=click.IntRange(1, 100_000), help="So many devices, made up.")
@click.option("--prefix", default="F", show_default=True, help="Of the made-up stores' names.")
@click.option("--role", "roles", multiple=True, help="Of the made-up devices.")
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
    identities: Path | None,
    count: int | None,
    prefix: str,
    roles: Sequence[str],
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
    """
    if (identities is None) == (count is None):
        raise click.UsageError("give either --identities or --count")
    members = (
        _read(identities)
        if identities is not None
        else [
            Member(Identity(new_identifier(f"{prefix}{number:05d}", "store"), "d1"), tuple(roles))
            for number in range(1, (count or 0) + 1)
        ]
    )
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


def _read(path: Path) -> list[Member]:
    members: dict[Identity, Member] = {}
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
            identity = Identity(
                identifier(found["store"], "store"), identifier(found["device"], "device")
            )
            member = Member(identity, tuple(str(role) for role in found.get("roles", [])))
        except (ValueError, KeyError, TypeError, WireError) as error:
            raise InvalidEntry(f"line {line} of {path} names no device: {error}") from None
        if identity in members:
            raise InvalidEntry(f"line {line} of {path} names {identity} again")
        members[identity] = member
    if not members:
        raise InvalidEntry(f"{path} names no device")
    return list(members.values())


def _raise_descriptor_limit() -> None:
    """Have as many descriptors as the system grants: each device takes one."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - there is none on Windows, nor such a limit

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
