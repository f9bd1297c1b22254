"""Networks of their own, in which packets vanish: `ip netns`, veth pairs and nft.

Owns one namespace in the middle, one for each place around it, the wire between them, and what is
dropped on it; all of it goes with `close`. Nothing of it can be reached from the machine's own
network, nor reaches it. Needs root, iproute2 and nftables (`tools/debian.sh`); `why_not` says
what is missing.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_INSTALL = Path(__file__).parents[2] / "tools" / "debian.sh"
_TABLE = "faults"
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class NamespaceError(Exception):
    """A command that makes or changes them failed."""


def why_not() -> str:
    """What is missing for namespaces, after what can be installed was; "" where nothing is."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "no root"
    if not _tool("ip") or not _tool("nft"):
        subprocess.run(["sh", str(_INSTALL)], check=False, capture_output=True)
    if missing := [name for name in ("ip", "nft") if not _tool(name)]:
        return f"no {' and no '.join(missing)}"
    try:
        with Namespaces(["probe"]) as probe:
            probe.drop("probe", up=True, down=True)
    except NamespaceError as error:
        return f"no namespaces: {error}"
    return ""


def _tool(name: str) -> str | None:
    return shutil.which(name, path=_PATH)


def _run(*words: str, given: str | None = None) -> None:
    done = subprocess.run(
        [_tool(words[0]) or words[0], *words[1:]],
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NamespaceError(f"{' '.join(words)}: {done.stderr.strip()}")


class Namespaces:
    """A star of namespaces. A context manager; `close` it otherwise."""

    def __init__(self, places: Sequence[str]) -> None:
        """Make them.

        Raises:
            NamespaceError: This machine cannot; nothing is left of the attempt.
        """
        self._prefix = f"sbf{os.getpid()}"
        self._numbers = {name: number for number, name in enumerate(places, start=1)}
        self._hosts = dict.fromkeys(places, 2)
        self._rules: dict[str, list[str]] = {}
        self._made: list[str] = []
        try:
            self._make(self.middle)
            for name in places:
                self._make_place(name)
            self._write_rules()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def middle(self) -> str:
        """The namespace to which all wires lead."""
        return f"{self._prefix}-0"

    def name_of(self, place: str) -> str:
        """The namespace of a place."""
        return f"{self._prefix}-{self._numbers[place]}"

    def middle_address(self, place: str) -> str:
        """How a place reaches the middle."""
        return f"10.213.{self._numbers[place]}.1"

    def inside(self, namespace: str) -> list[str]:
        """What to put before a command that is to run in a namespace."""
        return [_tool("ip") or "ip", "netns", "exec", namespace]

    # --- what happens on a wire ------------------------------------------------------------------

    def drop(self, place: str, *, up: bool = False, down: bool = False, percent: int = 100) -> None:
        """Let packets vanish on a wire, so that nobody is told; it replaces what was before."""
        chance = "" if percent >= 100 else f"numgen random mod 100 < {percent} "
        wire = self._wire(place)
        self._rules[place] = [
            *([f'add rule inet {_TABLE} up iifname "{wire}" {chance}drop'] if up else []),
            *([f'add rule inet {_TABLE} down oifname "{wire}" {chance}drop'] if down else []),
        ]
        self._write_rules()

    def pass_all(self, place: str) -> None:
        """The wire carries everything again."""
        self._rules.pop(place, None)
        self._write_rules()

    def change_address(self, place: str) -> None:
        """Give a place another address: what was connected from the old one is dead."""
        old, self._hosts[place] = self._hosts[place], self._hosts[place] % 200 + 1
        self._hosts[place] = max(self._hosts[place], 2)
        within = ("ip", "-n", self.name_of(place), "addr")
        _run(*within, "del", f"{self._address(place, old)}/24", "dev", "wire")
        _run(*within, "add", f"{self._address(place, self._hosts[place])}/24", "dev", "wire")

    def unplug(self, place: str) -> None:
        """Take the cable out at the place's end; its system knows."""
        _run("ip", "-n", self.name_of(place), "link", "set", "wire", "down")

    def plug(self, place: str) -> None:
        """Put it in again."""
        _run("ip", "-n", self.name_of(place), "link", "set", "wire", "up")

    def dropped(self) -> int:
        """How many packets have vanished since the rules last changed."""
        found = subprocess.run(
            [*self.inside(self.middle), _tool("nft") or "nft", "list", "table", "inet", _TABLE],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        words = found.split()
        return sum(int(words[at + 1]) for at, word in enumerate(words) if word == "packets")

    def close(self) -> None:
        """Let all of it go; idempotent. Its processes must have ended."""
        while self._made:
            with contextlib.suppress(NamespaceError):
                _run("ip", "netns", "del", self._made.pop())

    # --- making ----------------------------------------------------------------------------------

    def _make(self, namespace: str) -> None:
        _run("ip", "netns", "add", namespace)
        self._made.append(namespace)
        _run("ip", "-n", namespace, "link", "set", "lo", "up")

    def _make_place(self, place: str) -> None:
        namespace, wire = self.name_of(place), self._wire(place)
        self._make(namespace)
        _run(
            *("ip", "-n", self.middle, "link", "add", wire, "type", "veth"),
            *("peer", "name", "wire", "netns", namespace),
        )
        for within, address, link in (
            (self.middle, self.middle_address(place), wire),
            (namespace, self._address(place, self._hosts[place]), "wire"),
        ):
            _run("ip", "-n", within, "addr", "add", f"{address}/24", "dev", link)
            _run("ip", "-n", within, "link", "set", link, "up")

    def give_up_sooner(self, place: str, *, repetitions: int) -> None:
        """Let the place's TCP end a connection after so many unanswered repetitions (of 15)."""
        inside = self.inside(self.name_of(place))
        _run(*inside, "sysctl", "-q", "-w", f"net.ipv4.tcp_retries2={repetitions}")

    def _wire(self, place: str) -> str:
        return f"wire{self._numbers[place]}"

    def _address(self, place: str, host: int) -> str:
        return f"10.213.{self._numbers[place]}.{host}"

    def _write_rules(self) -> None:
        """In one transaction, as nft has it."""
        lines = [
            f"add table inet {_TABLE}",
            f"delete table inet {_TABLE}",
            f"add table inet {_TABLE}",
            f"add chain inet {_TABLE} up {{ type filter hook input priority 0; }}",
            f"add chain inet {_TABLE} down {{ type filter hook output priority 0; }}",
            *(rule.replace("drop", "counter drop") for r in self._rules.values() for rule in r),
        ]
        _run(*self.inside(self.middle), _tool("nft") or "nft", "-f", "-", given="\n".join(lines))
