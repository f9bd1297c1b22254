"""The command `storebus-broker`: the embedded broker as a process of its own.

Owns options, signals, the ready file and exit codes. amqtt is imported only once the options are
understood, so that `--help` is quick.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from buskit.files import write_atomically
from buswire.errors import BusError

if TYPE_CHECKING:
    from broker.server import Addresses, EmbeddedBroker

_EXAMPLES = """
\b
Examples:
  storebus-broker
      listen on this machine alone, port 1883
  storebus-broker --port 0 --ready-file /run/storebus/broker.json
      take a free port and say which
  storebus-broker --websocket-port 8083
      also speak MQTT over WebSocket, for stores behind strict firewalls
  storebus-broker --access ~/.local/share/storebus/hq/access.json
      let in only who head office knows, and only to their own topics
  storebus-broker --host 0.0.0.0 --access access.json \\
          --tls-cert broker.pem --tls-key broker.key
      serve stores over any network, port 8883; 'hq tls init' makes the files
  storebus-broker --access access.json --tls-cert broker.pem \\
          --tls-key broker.key --tls-port 8883 --tls-host 0.0.0.0
      TLS for the network, and plain text on loopback for the hub beside it

\b
Try it out with any MQTT 3.1.1 client:
  mosquitto_sub -p 1883 -t '#' -v

\b
What an operator should know (docs/broker.md has it all):
  Without --access anyone who reaches it may do anything; it listens on
  loopback alone unless told otherwise. The access file is read again within
  a second of a change: revoked clients are thrown out, and what a store may
  not read any more stops.
  Sessions (also with clean_session=False) and retained messages are in
  memory, within bounds, and end with the process: a PUBACK is no promise
  over a restart. storebus itself needs neither.
  Who is over a limit is disconnected or held back, and the reason is logged.

It stops on SIGTERM and on Ctrl-C, with exit code 0. Exit code 1: it cannot
listen, or a file that it needs is missing or wrong.
"""


@click.command(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port for MQTT; 0 takes a free one.  [default: 1883, in TLS 8883]",
)
@click.option(
    "--websocket-port",
    type=click.IntRange(0, 65535),
    help="Port for MQTT over WebSocket; 0 takes a free one. Without it there is none.",
)
@click.option(
    "--plain-text-on-network",
    is_flag=True,
    help="Allow a --host that other machines can reach, although nothing is encrypted: "
    "whoever is on that network can read and change every message.",
)
@click.option(
    "--open-to-network",
    is_flag=True,
    help="Allow, in TLS, a --host that other machines can reach although there is no --access: "
    "whoever reaches it may read and publish everything.",
)
@click.option(
    "--access",
    "access_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Who may connect, and what they may do: access.json in the home of 'hq', where the hub "
    "writes it. Looked at twice a second.",
)
@click.option(
    "--tls-cert",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Speak TLS (1.2 and later) with this certificate: PEM, with what lies between it and "
    "the CA.",
)
@click.option(
    "--tls-key",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The certificate's key: PEM, readable by nobody else (chmod 600).",
)
@click.option(
    "--tls-client-ca",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Believe client certificates of this CA. Whether devices must have one is said in the "
    "access file (mutual TLS).",
)
@click.option(
    "--tls-port",
    type=click.IntRange(0, 65535),
    help="Speak TLS on this port, and plain text on --port. Without it --port is in TLS as soon "
    "as there is a --tls-cert.",
)
@click.option("--tls-host", help="Address for --tls-port.  [default: as --host]")
@click.option(
    "--tls-websocket-port",
    type=click.IntRange(0, 65535),
    help="Port for WebSocket in TLS beside --tls-port.",
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write host, port, websocket_port, tls, urls and pid as JSON to this file once clients "
    "can connect; it is removed when the broker stops.",
)
@click.option(
    "--log-level",
    default="warning",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="How much to tell on standard error; info tells of every client.",
)
def main(
    host: str,
    port: int | None,
    websocket_port: int | None,
    *,
    plain_text_on_network: bool,
    open_to_network: bool,
    access_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    tls_port: int | None,
    tls_host: str | None,
    tls_websocket_port: int | None,
    ready_file: Path | None,
    log_level: str,
) -> None:
    """Run the embedded MQTT 3.1.1 broker of storebus."""
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if tls_cert is None and (tls_client_ca is not None or tls_port is not None):
        raise click.UsageError("TLS needs --tls-cert and --tls-key ('hq tls init' makes them)")
    if tls_port is None and (tls_host is not None or tls_websocket_port is not None):
        raise click.UsageError("--tls-host and --tls-websocket-port are for a --tls-port")
    logging.basicConfig(
        level=log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # What amqtt and its libraries tell of themselves is of no use to an operator.
    for name in ("amqtt", "transitions", "websockets"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    try:
        # amqtt takes 0.2 s to import.
        from broker.limits import TRIAL_LIMITS  # noqa: PLC0415
        from broker.listeners import is_loopback  # noqa: PLC0415
        from broker.server import EmbeddedBroker, TlsListener  # noqa: PLC0415
        from broker.tls import TlsFiles  # noqa: PLC0415

        if ready_file is not None:
            ready_file.unlink(missing_ok=True)  # one from an earlier run would be a lie
        _raise_descriptor_limit()
        server = EmbeddedBroker(
            host,
            port,
            websocket_port=websocket_port,
            plain_text_on_network=plain_text_on_network,
            open_to_network=open_to_network,
            access_file=access_file,
            limits=TRIAL_LIMITS if access_file is None and is_loopback(host) else None,
            tls=TlsFiles(certificate=tls_cert, key=tls_key, client_ca=tls_client_ca)
            if tls_cert is not None and tls_key is not None
            else None,
            tls_listener=TlsListener(
                host=tls_host, port=tls_port, websocket_port=tls_websocket_port
            )
            if tls_port is not None
            else None,
        )
        try:
            asyncio.run(_serve(server, ready_file))
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)
    except (BusError, OSError) as error:
        click.echo(f"storebus-broker: {error}", err=True)
        if isinstance(error, BusError) and error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        raise SystemExit(1) from None


async def _serve(server: "EmbeddedBroker", ready_file: Path | None) -> None:
    stopping = asyncio.Event()
    _on_stop_signal(asyncio.get_running_loop(), stopping.set)
    addresses = await server.start()
    try:
        # What was imported stays for good: the garbage collector need not look at it again.
        gc.collect()
        gc.freeze()
        for url in addresses.urls:
            click.echo(f"listening {url}")
        sys.stdout.flush()
        if ready_file is not None:
            _write_ready_file(ready_file, addresses)
        await stopping.wait()
    finally:
        await server.stop()


def _on_stop_signal(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows' loops have no signal handlers of their own
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _write_ready_file(path: Path, addresses: "Addresses") -> None:
    """Write the file whole or not at all: others wait for it to appear."""
    content: dict[str, object] = {
        "host": addresses.host,
        "port": addresses.port,
        "websocket_port": addresses.websocket_port,
        "tls": addresses.tls,
        "urls": addresses.urls,
        "pid": os.getpid(),
    }
    if addresses.second is not None:
        content |= {
            "tls_host": addresses.second.host,
            "tls_port": addresses.second.port,
            "tls_websocket_port": addresses.second.websocket_port,
        }
    # Others only look at it while this process lives: it need not survive a power cut.
    write_atomically(path, json.dumps(content).encode() + b"\n", mode=0o644, durable=False)


def _raise_descriptor_limit() -> None:
    """Have as many descriptors as the system grants: each client takes one."""
    try:
        import resource  # noqa: PLC0415  # not on Windows, which has no such limit
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
