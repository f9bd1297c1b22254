"""The files of `hq tls` in the embedded broker itself, and a hub's link to it."""

import json
import queue
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buskit.link import (
    Connected,
    Link,
    LinkEvent,
    LinkSettings,
    Publication,
    Received,
    Subscribed,
)
from hqconsole.tls import hub_tls, init_tls, renew_tls, tls_files
from tests.helpers.waiting import TIME_SCALE, wait_until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head office with a CA."""
    home = tmp_path_factory.mktemp("hq")
    init_tls(home)
    return home


@pytest.fixture(scope="module")
def urls(home: Path) -> Iterator[list[str]]:
    """Where its broker listens."""
    ready, files = home / "ready.json", tls_files(home)
    command = [
        *(Path(sys.executable).with_name("storebus-broker"), "--ready-file", ready),
        *("--tls-cert", files.broker, "--tls-key", files.broker_key),
        *("--port", "0", "--websocket-port", "0"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_until(lambda: ready.exists() or process.poll() is not None, seconds=20, what="the broker")
    yield json.loads(ready.read_text())["urls"]
    process.terminate()
    assert process.wait(20) == 0


def _link(url: str, home: Path) -> "tuple[Link, queue.SimpleQueue[LinkEvent]]":
    events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
    settings = LinkSettings((url,), "hub/1/a", tls=hub_tls(home, "hub/1"))
    return Link(settings, deliver=events.put, random=random.Random(1)), events


def test_a_hub_speaks_to_its_own_broker(home: Path, urls: list[str]) -> None:
    """With and without WebSocket: what it publishes comes back to it, long messages too."""
    assert [url.partition(":")[0] for url in urls] == ["mqtts", "wss"]
    for url in urls:
        link, events = _link(url, home)
        link.start()
        try:
            assert events.get(timeout=20 * TIME_SCALE) == Connected(url)
            assert link.subscribe([("echo", 1)])
            assert events.get(timeout=20 * TIME_SCALE) == Subscribed(("echo",), ())
            body = random.Random(2).randbytes(250_000)
            link.publish(Publication("echo", body, 1))
            said = [events.get(timeout=20 * TIME_SCALE) for _ in range(2)]
            assert [one.payload for one in said if isinstance(one, Received)] == [body]
        finally:
            link.stop()


def test_a_hub_of_another_head_office_is_not_fooled(
    home: Path, urls: list[str], tmp_path: Path
) -> None:
    """It has a CA of its own and says so."""
    init_tls(tmp_path)
    link, events = _link(urls[0], tmp_path)
    link.start()
    try:
        wait_until(lambda: link.failure, seconds=20, what="the attempt to fail")
        assert "is not signed by the CA in" in str(link.failure)
        assert events.empty()
    finally:
        link.stop()


def test_a_renewed_certificate_waits_for_the_next_start(home: Path, urls: list[str]) -> None:
    """The broker goes on with the one it has read: nobody is thrown out by renewing."""
    renew_tls(home)
    link, events = _link(urls[0], home)
    link.start()
    try:
        assert events.get(timeout=20 * TIME_SCALE) == Connected(urls[0])
    finally:
        link.stop()
