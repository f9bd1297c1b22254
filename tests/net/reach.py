"""A chain of real processes in which everybody reaches the broker through a proxy of their own.

Owns the proxies and the rewriting of addresses; what they do is the caller's business.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tests.helpers.waiting import wait_until
from tests.net.proxy import Proxy
from tests.processes.chain import Chain, Daemon, Till

HUB = "hub"
KEEPALIVE_SECONDS = 2


class ReachedChain(Chain):
    """A `Chain` with `proxies`: one for each device, by its name, and one for the `hub`.

    Attributes:
        proxies: They live as long as the chain.

    Where it is not `quick`, the waits are the product's own.
    """

    def __init__(
        self,
        folder: Path,
        stores: Sequence[str],
        *,
        tls: Literal["", "tls", "mutual"] = "",
        quick: bool = True,
        new_proxy: Callable[[int], Proxy] = Proxy,
    ) -> None:
        super().__init__(folder, stores, tls=tls)
        self._quick = quick
        self._new_proxy = new_proxy
        self.proxies: dict[str, Proxy] = {}

    def _set_up(self) -> None:
        super()._set_up()
        for till in self.tills.values():
            till.stop()
        # Otherwise the next run of the hub would take them for there, from before.
        wait_until(lambda: not any(map(self.online, self.stores)), what="all to be gone")
        self.hub.stop()
        self.redirect(HUB, self.home / "hq.toml")
        for name, till in self.tills.items():
            self.redirect(name, till.home / "agent.toml")
        for daemon in self.daemons:
            daemon.start()
        self.wait_online()

    def redirect(self, name: str, settings: Path) -> None:
        """Put a proxy into somebody's way to the broker; who runs must be started again."""
        proxy = self.proxies[name] = self._new_proxy(self.bus.port)
        text, found = re.subn(r"127\.0\.0\.1:\d+", f"127.0.0.1:{proxy.port}", settings.read_text())
        assert found == 1, text
        if self._quick:
            text = text.replace("[link]\n", f"[link]\nkeepalive_seconds = {KEEPALIVE_SECONDS}\n")
            assert "keepalive_seconds" in text, text
        else:
            text = text.partition("[timing]\n")[0]
        settings.write_text(text)

    def _end(self) -> None:
        super()._end()
        for proxy in self.proxies.values():
            proxy.close()

    def told_of(self, till: Till) -> dict[str, Any]:
        """What a device's daemon says of itself, as its commands read it."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((till.home / "daemon.json").read_text()))
        return {}

    def online(self, store: str) -> bool:
        """Whether HQ believes that a device of the store is there."""
        query = (
            "SELECT max(online) FROM device JOIN store ON store.no = store_no WHERE store.id = ?"
        )
        return bool(self.rows(query, store)[0][0])

    @property
    def daemons(self) -> Iterator[Daemon]:
        """The hub and all devices."""
        yield self.hub
        yield from self.tills.values()


def is_online(chain: Chain, store: str) -> bool:
    """Whether HQ believes that a device of the store is there."""
    device = "device JOIN store ON store.no = store_no WHERE store.id = ?"
    return bool(chain.rows(f"SELECT max(online) FROM {device}", store)[0][0])
