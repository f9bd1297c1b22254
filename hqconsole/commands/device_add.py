"""`device add` and `device rotate`: bundles, for one device or for a whole chain."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from buskit.cli import home_option
from buskit.database import Database
from buskit.doorbell import ring
from buskit.terminal import narrate
from buswire.topics import Identity
from hqconsole.commands.common import (
    TAKES_EFFECT,
    acting_on,
    narrate_hub,
    operator,
    progress,
    span_seconds,
    write_audit,
)
from hqconsole.commands.device_targets import Wanted, parse_roles, wanted_devices
from hqconsole.errors import HqError
from hqconsole.home import new_id, read_hq_settings
from hqconsole.ledger import store_views
from hqconsole.ledger.opening import open_ledger

_AT_ONCE = 200
"""So many devices are added in one transaction: others write in between."""
_HERE = frozenset({"127.0.0.1", "::1", "localhost"})
_STANDARD_OUTPUT = Path("-")

_broker_option = click.option(
    "--broker",
    "brokers",
    multiple=True,
    metavar="URL",
    help="Where the device finds the broker, if not where hq.toml says; several add up.",
)
_expires_option = click.option(
    "--expires",
    "expires_seconds",
    type=span_seconds,
    default="7d",
    show_default=True,
    metavar="SPAN",
    help="How long it can be used.",
)
_output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Where the bundle goes; - is standard output.  [default: STORE.DEVICE.bundle]",
)


@click.command()
@click.argument("words", metavar="[STORE] DEVICE", nargs=-1)
@click.option(
    "--roles", multiple=True, metavar="A,B", help="What it serves; otherwise all of its store."
)
@_expires_option
@_output_option
@_broker_option
@click.option("--all", "everywhere", is_flag=True, help="A device of this name in every store.")
@click.option("--region", "regions", multiple=True, metavar="ID", help="In the stores of a region.")
@click.option(
    "--list",
    "listed",
    metavar="FILE",
    help="Those in a CSV with the columns store, device and roles (a;b); - is standard input.",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where the bundles of many devices go.",
)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    hidden=True,
    help="For benches and trials: let the devices in at once and write their keys into FILE, as"
    " storeagent fleet takes them. Head office then knows their private keys.",
)
@home_option("hq")
def add(
    *,
    words: Sequence[str],
    roles: Sequence[str],
    expires_seconds: float,
    output: Path | None,
    brokers: Sequence[str],
    everywhere: bool,
    regions: Sequence[str],
    listed: str | None,
    into: Path | None,
    fleet: Path | None,
    home: Path,
) -> None:
    """Invite a device: write a bundle, good once and for a while, for storeagent join.

    A bundle is a secret until it was used: whoever uses it first is the device. Carry it there,
    say storeagent join BUNDLE, and delete it. Another one for the same device voids the first.

    For a whole chain, one command: devices that are in already, or wait to be let in, are passed
    over, so it can be said again.

    \b
    Examples:
      hq device add S017 till-1 --roles manager,clerk
      hq device add S017 till-1 -o - | ssh till-1 storeagent join -
      hq device add --all till-1 --roles manager --into bundles
      hq device add --region east office --into bundles --expires 30d
      hq device add --list devices.csv --into bundles
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    many = everywhere or bool(regions) or listed is not None
    if many and output is not None:
        raise click.UsageError("-o is for one device; many go --into a folder")
    if not many and into is not None:
        raise click.UsageError("--into is for many devices; one goes to -o FILE")
    if many and into is None and fleet is None:
        raise click.UsageError("many bundles go --into a FOLDER")
    asked = parse_roles(roles)
    with open_ledger(home) as ledger:
        wanted = wanted_devices(
            ledger, words, asked, everywhere=everywhere, regions=regions, listed=listed
        )
        acting_on(home, ledger, "devices", (one.identity.store for one in wanted))
        if fleet is not None:
            _make_fleet(ledger, home, wanted, fleet)
            return
        maker = _bundle_maker(home, brokers, expires_seconds)
        if many:
            assert into is not None  # looked at above
            _add_many(ledger, home, wanted, maker, into)
            return
        (one,) = wanted
        _refuse_known(ledger, one.identity)
        _add_one(ledger, home, one, maker, output=output, action="device add")
    narrate_hub(home, TAKES_EFFECT)


@click.command()
@click.argument("who", metavar="STORE.DEVICE", type=Identity.parse)
@_expires_option
@_output_option
@_broker_option
@home_option("hq")
def rotate(
    *,
    who: Identity,
    expires_seconds: float,
    output: Path | None,
    brokers: Sequence[str],
    home: Path,
) -> None:
    """Give a device a new key: on the same machine, or on the one that takes its place.

    Writes a bundle. The key that it has counts until the bundle was used, and then no more: what
    its old machine had not sent by then is lost if its disk is.

    \b
    Examples:
      hq device rotate S017.till-1
      hq device rotate S017.till-1 --expires 1h -o /media/usb/S017.till-1.bundle
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger:
        acting_on(home, ledger, "devices", [who.store])
        with ledger.read() as connection:
            found = store_views.enrolled(connection, store=who.store, device=who.device)
        if not found:
            raise HqError(
                f"there is no device {who}", hint=f"hq device add {who.store} {who.device}"
            )
        maker = _bundle_maker(home, brokers, expires_seconds)
        one = Wanted(who, None, () if found[0]["all_roles"] else found[0]["roles"])
        _add_one(ledger, home, one, maker, output=output, action="device rotate")
    narrate_hub(home, TAKES_EFFECT)


def _refuse_known(ledger: Database, who: Identity) -> None:
    with ledger.read() as connection:
        found = store_views.enrolled(connection, store=who.store, device=who.device)
    if found and found[0]["state"] == "active":
        raise HqError(
            f"{who} is in already",
            hint=f"a new key or machine: hq device rotate {who};"
            f" other roles: hq roster assign {who.store} {who.device} --role ROLE",
        )


# --- bundles -------------------------------------------------------------------------------------

Maker = Callable[[Any, Wanted], bytes]
"""Given a connection with a write transaction and a device, the content of its bundle."""


def _bundle_maker(home: Path, brokers: Sequence[str], expires_seconds: float) -> Maker:
    """Look at everything that bundles have in common, once."""
    from buskit.link_settings import Address  # noqa: PLC0415 - not for help
    from hqconsole import bundles  # noqa: PLC0415 - cryptography
    from hqconsole.keyring import Keyring  # noqa: PLC0415
    from hqconsole.tls import ca_certificate  # noqa: PLC0415

    if expires_seconds <= 0:
        raise click.UsageError("--expires must be some time from now")
    settings = read_hq_settings(home)
    urls = tuple(brokers) or settings.brokers
    addresses = [Address.parse(url) for url in urls]
    if any(urlsplit(url).port == 0 for url in urls):
        raise HqError(
            "hq.toml has the broker at port 0, which is another one each time",
            hint="say where devices find it: --broker URL",
        )
    if all(address.host in _HERE for address in addresses):
        narrate(f"! the bundle leads to {urls[0]}, which only this machine can reach: --broker URL")
    elif not all(address.tls for address in addresses):
        narrate("! the way to the broker is plain text: hq tls init, then mqtts:// addresses")
    now_at = time.time()
    common = bundles.Common(
        root=settings.root,
        brokers=urls,
        ca=ca_certificate(home) or "",
        trust=Keyring.load(home).trusted(),
        expires_at=now_at + expires_seconds,
        by=operator(),
    )
    return lambda connection, one: bundles.invite(
        connection,
        one.identity,
        one.roles,
        common,
        at=now_at,
        new_id=new_id,
        named=one.named,
    )


def _add_one(
    ledger: Database, home: Path, one: Wanted, maker: Maker, *, output: Path | None, action: str
) -> None:
    from buskit.secrets import write_secret  # noqa: PLC0415 - not for help

    who = one.identity
    file = output or Path(f"{who}.bundle")
    if file != _STANDARD_OUTPUT and not file.absolute().parent.is_dir():
        raise HqError(f"there is no folder {file.absolute().parent}", hint="make it first")
    with ledger.write() as connection:
        content = maker(connection, one)
        roles = "all" if one.roles is None else list(one.roles)
        detail = {} if action == "device rotate" else {"roles": roles}
        write_audit(connection, action, device=str(who), **detail)
    ring(home)
    if file == _STANDARD_OUTPUT:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    write_secret(file, content)
    narrate(
        f"{file} lets one machine become {who}, once\n"
        f"take it there, and: storeagent join {file.name}; then delete it"
    )


def _add_many(
    ledger: Database, home: Path, wanted: Sequence[Wanted], maker: Maker, folder: Path
) -> None:
    from buskit.homes import make_home  # noqa: PLC0415 - not for help
    from buskit.secrets import write_secret  # noqa: PLC0415

    with ledger.read() as connection:
        there = {
            Identity(row["store"], row["device"])
            for row in store_views.enrolled(connection)
            if row["state"] in {"active", "waiting"}
        }
    left = [one for one in wanted if one.identity not in there]
    folder = make_home(folder)
    with progress(len(left), "bundles") as advance:
        for some in _chunks(left):
            with ledger.write() as connection:
                files = {one.identity: maker(connection, one) for one in some}
                write_audit(connection, "device add", **_counted(some))
            for identity, content in files.items():
                write_secret(folder / f"{identity}.bundle", content)
                advance(1)
    ring(home)
    narrate(f"{len(left):,} bundles are in {folder}; each lets one machine in, once")
    if passed_over := len(wanted) - len(left):
        narrate(f"{passed_over:,} devices are in already, or wait to be let in")
    narrate_hub(home, TAKES_EFFECT)


def _make_fleet(ledger: Database, home: Path, wanted: Sequence[Wanted], file: Path) -> None:
    """For benches and trials: let devices in whose keys are made here, and write all of them."""
    import msgspec  # noqa: PLC0415 - only trials need it

    from buskit.secrets import write_secret  # noqa: PLC0415
    from hqconsole import bundles  # noqa: PLC0415 - cryptography
    from hqconsole.keyring import Keyring  # noqa: PLC0415

    trust = msgspec.to_builtins(Keyring.load(home).trusted())
    lines = [json.dumps({"trust": trust})]
    with progress(len(wanted), "devices") as advance:
        for some in _chunks(wanted):
            with ledger.write() as connection:
                for one in some:
                    made = bundles.activate(
                        connection, one.identity, one.roles, at=time.time(), new_id=new_id
                    )
                    lines.append(json.dumps(made, ensure_ascii=False))
                write_audit(connection, "device add", fleet=str(file), **_counted(some))
            advance(len(some))
    write_secret(file, ("\n".join(lines) + "\n").encode())
    ring(home)
    narrate(
        f"{file} has the private keys of {len(wanted):,} devices, and head office made them: for"
        " trials only\n"
        f"storeagent fleet --keys {file} --broker URL"
    )
    narrate_hub(home, TAKES_EFFECT)


def _chunks(wanted: Sequence[Wanted]) -> list[Sequence[Wanted]]:
    return [wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE)]


def _counted(some: Sequence[Wanted]) -> dict[str, Any]:
    """What the audit keeps of many devices."""
    return {
        "devices": len(some),
        "first": str(some[0].identity),
        "last": str(some[-1].identity),
        "roles": sorted({role for one in some for role in one.roles or ("all",)}),
    }
