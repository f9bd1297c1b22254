"""`join`: become a device, with a bundle from head office."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Sheet, narrate
from buswire.access import JOIN_PREFIX
from buswire.joining import decode_bundle
from storeagent.errors import AgentError
from storeagent.joining import Joining
from storeagent.own_names import own_machine, own_version

if TYPE_CHECKING:
    from buswire.messages import Joined
    from storeagent.join_home import JoinHome


class Refused(AgentError):  # noqa: N818 - it says what head office did
    """Head office does not let this device in."""


class StillWaiting(AgentError):  # noqa: N818 - likewise
    """An operator has not looked yet."""

    exit_code = 4


@click.command()
@click.argument(
    "bundle", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="BUNDLE"
)
@click.option(
    "--broker",
    "brokers",
    multiple=True,
    metavar="URL",
    help="Another address than those in the bundle, such as mqtts://host:8883.",
)
@click.option("--hook", metavar="COMMAND", help="A command that runs when work arrives.")
@click.option(
    "--wait-seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="How long to wait for head office.",
)
@home_option("agent")
@json_option
def join(
    *,
    bundle: str,
    brokers: Sequence[str],
    hook: str | None,
    wait_seconds: float,
    home: Path,
    as_json: bool,
) -> None:
    """Make this machine a device of head office, with the BUNDLE that it made for it.

    The device draws its own key, which never leaves it. Some head offices want to compare the
    key's fingerprint first: then this waits, and can be said again.

    Said again with another bundle for the same device, it replaces key and password, and keeps
    work and answers.

    \b
    Examples:
      storeagent join S017.till-1.bundle
      ssh hq hq device add S017 till-1 -o - | storeagent join -
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from storeagent.home_lock import only_one  # noqa: PLC0415 - which the help does not need
    from storeagent.join_home import JoinHome  # noqa: PLC0415

    content = sys.stdin.buffer.read() if bundle == "-" else Path(bundle).read_bytes()
    place = JoinHome(home, decode_bundle(content), brokers=brokers or None, hook=hook)
    if place.joined_before:
        place.drop_draft()
        narrate(f"{place.identity} has joined with this bundle already")
        narrate(f"start it with: storeagent run --home {place.path}")
        if as_json:
            _tell_json(place, "accepted", place.fingerprint, "")
        return
    place.make()
    with only_one(place.path):
        draft = place.prepare()
        joining = Joining(
            place.bundle,
            draft,
            new_id=lambda: os.urandom(16).hex(),
            machine=own_machine(),
            version=own_version(),
            trust=place.trust,
        )
        joined = _ask(place, joining, wait_seconds, as_json=as_json)
        if joined.verdict == "accepted":
            place.finish(draft, certificate=joined.certificate, trust=joining.trusted)
    if as_json:
        _tell_json(place, joined.verdict, joining.fingerprint, joined.reason)
    if joined.verdict == "refused":
        raise Refused(
            f"head office does not let {place.identity} in: {joined.reason or 'no reason given'}",
            hint="ask head office for another bundle: "
            f"hq device add {place.identity.store} {place.identity.device}",
        )
    if joined.verdict == "waiting":
        raise StillWaiting(
            "head office has not confirmed the fingerprint yet",
            hint="say the same command again when it has; nothing is lost",
        )
    narrate(f"{place.identity} has joined, in {place.path}")
    if bundle != "-":
        narrate(f"the bundle is used up, delete it: {bundle}")
    narrate(f"start it with: storeagent run --home {place.path}")


def _ask(place: "JoinHome", joining: Joining, wait_seconds: float, *, as_json: bool) -> "Joined":
    from buskit.link import LinkSettings  # noqa: PLC0415 - see above
    from storeagent.join_link import ask_head_office  # noqa: PLC0415

    name = f"{JOIN_PREFIX}{place.bundle.id}"

    def waiting() -> None:
        narrate("head office wants to compare the fingerprint of this device's key:")
        if as_json:
            narrate(joining.fingerprint)
        else:
            Sheet().text(f"\n    {joining.fingerprint}\n")
        narrate(f'there: hq device confirm {place.identity} "{joining.fingerprint}"')
        narrate(f"waiting for that, at most {wait_seconds:g} s")

    return ask_head_office(
        joining,
        LinkSettings(
            addresses=place.brokers,
            client_id=name,
            username=name,
            password=place.bundle.token,
            backoff_most_seconds=3.0,
            tls=place.tls(),
        ),
        wait_seconds=wait_seconds,
        say=narrate,
        waiting=waiting,
    )


def _tell_json(place: "JoinHome", verdict: str, shown: str, reason: str) -> None:
    Sheet().json(
        {
            "verdict": verdict,
            "device": str(place.identity),
            "fingerprint": shown,
            "reason": reason,
            "home": str(place.path),
        }
    )
