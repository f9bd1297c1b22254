"""`tls`: its verbs, for head office's own CA and the broker's certificate."""

import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from buskit.cli import CommandGroup, home_option, json_option
from buskit.homes import default_home
from buskit.link_settings import Address, LinkSettingsError
from buskit.terminal import Column, Sheet, narrate
from hqconsole.commands.common import acting, write_audit_alone
from hqconsole.home import HqSettings, read_hq_settings
from hqconsole.ledger import store_views
from hqconsole.ledger.opening import open_ledger

_HERE = "hqconsole.commands.tls"
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not listened at
_MUTUAL_WORDS = {
    True: "devices and hubs must show a certificate, too; a device gets it when it joins",
    False: "devices and hubs need no certificate of their own",
}

tls = CommandGroup(
    name="tls",
    help=(
        "Encrypted links: a CA of head office's own, and the broker's certificate.\n\n"
        "Devices get the CA with their join bundle and then trust it alone, whatever their clock "
        "says: certificates are valid from 1970 to 9999, because tills with a dead battery wake "
        "up in 1970.\n\n"
        "\b\n"
        "Examples:\n"
        "  hq tls init --host bus.example.com --host 203.0.113.7\n"
        "  hq init --broker mqtts://bus.example.com:8883\n"
        "  hq tls show\n"
    ),
    sections={
        "Verbs": {
            "init": (f"{_HERE}:init", "Make the CA, and a certificate for these hosts."),
            "show": (f"{_HERE}:show", "Fingerprints, hosts, validity, what does not fit."),
            "renew": (f"{_HERE}:renew", "A new key and certificate for the broker."),
        }
    },
)


@click.command()
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name or IP address by which stores reach the broker; several may be given. Without "
    "any: those of the certificate that is there, or of the addresses in the settings.",
)
@click.option(
    "--mutual/--no-mutual",
    default=None,
    help="Whether devices and hubs must show a certificate, too. They get it when they join.",
)
@home_option("hq")
def init(hosts: Sequence[str], mutual: bool | None, home: Path) -> None:
    """Make head office's own CA and the broker's certificate.

    Said again it keeps the CA, which every device has pinned, and makes the broker a certificate
    for the hosts given now; this machine's own names are always among them.

    \b
    Examples:
      hq tls init --host bus.example.com
      hq tls init --host bus.example.com --host 203.0.113.7 --mutual
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from hqconsole import tls as authority  # noqa: PLC0415 - cryptography

    settings = read_hq_settings(home)
    acting(home, "keys")
    joined, was_mutual = _anyone_joined(home), authority.is_mutual(home)
    if not hosts and not authority.has_tls(home):
        hosts = _hosts_of(_addresses(settings))
    change = authority.init_tls(home, hosts, mutual=mutual)
    state, files = change.state, authority.tls_files(home.absolute())
    if change.new_ca or change.new_certificate or state.mutual != was_mutual:
        write_audit_alone(
            home,
            "tls init",
            hosts=list(state.hosts),
            mutual=state.mutual,
            new_ca=change.new_ca,
            ca=state.ca_fingerprint,
        )
    if change.new_ca:
        narrate(f"head office has a CA of its own: {files.ca}")
        narrate(f"who has {files.ca_key} can pose as the broker: keep it as safe as the ledger")
    if change.new_certificate:
        narrate(f"the broker has a certificate for {_listed(state.hosts)}")
    else:
        narrate(f"the broker's certificate is right as it is, for {_listed(state.hosts)}")
    if change.dropped:
        narrate(f"! and no more for {_listed(change.dropped)}")
    if mutual is not None or state.mutual != was_mutual:
        narrate(_MUTUAL_WORDS[state.mutual])
    if joined and change.new_ca:
        narrate("! devices that joined before do not know this CA: hq device rotate STORE.DEVICE")
    elif joined and state.mutual and not was_mutual:
        narrate("! devices that joined before have no certificate: hq device rotate STORE.DEVICE")
    _narrate_next(
        settings,
        state.hosts,
        home,
        changed=change.new_certificate or state.mutual != was_mutual,
    )
    _narrate_troubles(state.troubles)


@click.command()
@home_option("hq")
def renew(home: Path) -> None:
    """Give the broker a new key and a certificate for the same hosts. The CA stays.

    The certificate before stays valid, as all do: a stolen key of the broker is answered with a
    new CA, that is, without the folder tls, and a new bundle for every device.

    \b
    Example:
      hq tls renew
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from hqconsole import tls as authority  # noqa: PLC0415 - cryptography

    settings = read_hq_settings(home)
    acting(home, "keys")
    state = authority.renew_tls(home).state
    write_audit_alone(
        home, "tls renew", hosts=list(state.hosts), certificate=state.broker_fingerprint
    )
    narrate(f"the broker has a new key and certificate for {_listed(state.hosts)}")
    _narrate_next(settings, state.hosts, home, changed=True)
    _narrate_troubles(state.troubles)


@click.command()
@home_option("hq")
@json_option
def show(home: Path, as_json: bool) -> int:
    """Show the CA and the broker's certificate, and whether all fits together.

    The fingerprints are SHA-256, as openssl x509 -fingerprint -sha256 writes them. Exit code 1:
    something does not fit; it is said what.

    \b
    Example:
      hq tls show
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from hqconsole import tls as authority  # noqa: PLC0415 - cryptography

    read_hq_settings(home)  # says how to make a home where there is none
    state = authority.tls_state(home)
    files = authority.tls_files(home.absolute())
    shown: dict[str, Any] = {
        "hosts": list(state.hosts),
        "valid_from_at": state.valid_from_at,
        "valid_until_at": state.valid_until_at,
        "mutual": state.mutual,
        "ca_fingerprint": state.ca_fingerprint,
        "broker_fingerprint": state.broker_fingerprint,
        "ca_file": str(files.ca),
        "broker_file": str(files.broker),
        "broker_key_file": str(files.broker_key),
        "ca_key_here": state.ca_key_here,
        "troubles": list(state.troubles),
    }
    columns = [
        Column("hosts", "hosts"),
        Column("valid", "valid"),
        Column("mutual", "mutual"),
        Column("ca_file", "CA"),
        Column("ca_fingerprint", ""),
        Column("ca_key_here", "its key is here"),
        Column("broker_file", "certificate"),
        Column("broker_fingerprint", ""),
        Column("broker_key_file", "its key"),
    ]
    valid = f"{_day(state.valid_from_at)} to {_day(state.valid_until_at)}"
    Sheet().show_one(shown if as_json else {**shown, "valid": valid}, columns, as_json=as_json)
    _narrate_troubles(state.troubles)
    return 1 if state.troubles else 0


def _addresses(settings: HqSettings) -> list[Address]:
    """The brokers in the settings, as far as they are addresses: whoever uses one says more."""
    found = []
    for url in settings.brokers:
        with contextlib.suppress(LinkSettingsError):
            found.append(Address.parse(url))
    return found


def _hosts_of(addresses: Iterable[Address]) -> list[str]:
    """The hosts that stores may call; not "all addresses of this machine", which nobody can."""
    return [one.host for one in addresses if one.host not in _EVERYWHERE]


def _anyone_joined(home: Path) -> bool:
    with open_ledger(home) as ledger, ledger.read() as connection:
        return bool(store_views.enrolled(connection, state="active"))


def _narrate_next(settings: HqSettings, hosts: Sequence[str], home: Path, *, changed: bool) -> None:
    """Say what is left to do: the broker has to listen there, and everyone to know."""
    from hqconsole.certificates import ALWAYS_NAMED, covers  # noqa: PLC0415 - cryptography

    named = [host for host in hosts if host not in ALWAYS_NAMED]
    encrypted = [one for one in _addresses(settings) if one.tls]
    missing = [host for host in _hosts_of(encrypted) if not covers(hosts, host)]
    if missing:
        narrate(f"! stores are sent to {_listed(missing)}, and the certificate is not for that:")
        words = " ".join(f"--host {host}" for host in dict.fromkeys([*named, *missing]))
        narrate(f"  hq tls init {words}{_at(home)}")
    elif not named:
        narrate("! so only this machine can use it; name what stores call the broker:")
        narrate(f"  hq tls init --host bus.example.com{_at(home)}")
    elif not encrypted:
        host = f"[{named[0]}]" if ":" in named[0] else named[0]
        narrate("next, tell the broker and everyone who connects to it:")
        narrate(f"  hq init --broker mqtts://{host}:8883{_at(home)}")
    if changed and encrypted:
        narrate("start broker and hub again (hq up): they read this when they start")


def _at(home: Path) -> str:
    """What has to be added to the next command so that it finds this home."""
    return "" if default_home("hq").absolute() == home.absolute() else f" --home {home}"


def _narrate_troubles(troubles: Sequence[str]) -> None:
    for trouble in troubles:
        narrate(f"! {trouble}")


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))
