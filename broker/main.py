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
  storebus-broker --host 10.0.0.5 --plain-text-on-network
      serve a network that is yours alone, unencrypted

\b
Try it out with any MQTT 3.1.1 client:
  mosquitto_sub -p 1883 -t '#' -v

It stops on SIGTERM and on Ctrl-C, with exit code 0; sessions and retained
messages are kept in memory and end with it. Exit code 1: it cannot listen.
"""


@click.command(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=1883,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port for MQTT; 0 takes a free one.",
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
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write host, port, websocket_port and pid as JSON to this file once clients can "
    "connect; it is removed when the broker stops.",
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
    port: int,
    websocket_port: int | None,
    *,
    plain_text_on_network: bool,
    ready_file: Path | None,
    log_level: str,
) -> None:
    """Run the embedded MQTT 3.1.1 broker of storebus."""
    logging.basicConfig(
        level=log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # What amqtt and its libraries tell of themselves is of no use to an operator.
    for name in ("amqtt", "transitions", "websockets"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    try:
        from broker.server import EmbeddedBroker  # noqa: PLC0415  # amqtt takes 0.2 s to import

        if ready_file is not None:
            ready_file.unlink(missing_ok=True)  # one from an earlier run would be a lie
        _raise_descriptor_limit()
        server = EmbeddedBroker(
            host,
            port,
            websocket_port=websocket_port,
            plain_text_on_network=plain_text_on_network,
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
    content = json.dumps(
        {
            "host": addresses.host,
            "port": addresses.port,
            "websocket_port": addresses.websocket_port,
            "pid": os.getpid(),
        }
    )
    # Others only look at it while this process lives: it need not survive a power cut.
    write_atomically(path, content.encode() + b"\n", mode=0o644, durable=False)


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
