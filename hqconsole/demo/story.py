"""What happens in the demo, act by act.

Owns the order of events and their narration; the processes are `chain`'s, the counting `proof`'s.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from buskit.terminal import Column, Sheet, bar, printable
from buswire.topics import Identity
from hqconsole.demo.chain import Chain, DemoError, Device, wait_for
from hqconsole.demo.proof import Journal, Proof, prove
from hqconsole.ledger import arrival_views, directives, store_views, views
from hqconsole.ledger.opening import open_ledger

LIGHT_LIMIT = 1000
"""More stores than this get no device: one machine stands for all of them here."""
_REAL_AGENTS = 4
_CATCH_UP_SECONDS = 60.0
_TERMINAL_EVERY_SECONDS = 0.1
_PIPE_EVERY_SECONDS = 1.0


class Story:
    """One run of the demo."""

    def __init__(self, chain: Chain, roster: Path, roster_words: Sequence[str]) -> None:
        """Take the processes and the store list.

        Args:
            chain: Nothing is started yet.
            roster: The list of stores.
            roster_words: Further words for `hq roster import`.
        """
        self._chain = chain
        self._roster = roster
        self._roster_words = roster_words
        self._journal = Journal()
        self._began = time.monotonic()

    def tell(self) -> Proof:
        """Play all acts; returns the proof.

        Raises:
            HqError: Something did not come up, or did not catch up in time.
        """
        self._open_head_office()
        self._bring_the_chain_up()
        self._first_directive()
        self._script_and_replies()
        self._broker_dies()
        self._store_returns()
        return self._settle()

    # --- acts ------------------------------------------------------------------------------------

    def _open_head_office(self) -> None:
        chain = self._chain
        self._act("Head office", "a ledger, and a list of stores")
        chain.hq("init")
        chain.start_broker()
        chain.hq("init", "--broker", chain.broker_url)
        self._command("hq roster import", self._roster.name, *self._roster_words)
        chain.hq("roster", "import", str(self._roster), *self._roster_words)
        self._ledger = open_ledger(chain.hq_home)
        stores = store_views.roster(self._ledger.connection)
        if len(stores) < _REAL_AGENTS:
            raise DemoError(f"the list has {len(stores)} stores and the demo needs {_REAL_AGENTS}")
        by_region: dict[str, list[dict[str, Any]]] = {}
        for store in stores:
            by_region.setdefault(store["region"], []).append(store)
        self._region = max(by_region, key=lambda region: (len(by_region[region]), region))
        roles: dict[str, int] = {}
        for store in by_region[self._region]:
            for role in store["roles"]:
                roles[role] = roles.get(role, 0) + 1
        self._role = max(roles, key=lambda role: (role == "manager", roles[role]))
        real = [store for store in by_region[self._region] if self._role in store["roles"]] + stores
        chosen: dict[str, dict[str, Any]] = {}
        for store in real:
            chosen.setdefault(store["store"], store)
            if len(chosen) == _REAL_AGENTS:
                break
        self._names = {store["store"]: store["name"] for store in stores}
        self._devices = [
            Device(Identity(store, "office-pc"), chain.folder / f"{store}.office-pc")
            for store in chosen
        ]
        self._light = [
            Identity(store["store"], name)
            for store in stores[:LIGHT_LIMIT]
            if store["store"] not in chosen
            for name in ("till-1", "till-2")
        ]
        self._say(
            f"{len(stores)} stores in {len(by_region)} regions; the largest is {self._region}"
        )
        if len(stores) > LIGHT_LIMIT + _REAL_AGENTS:
            raise DemoError(
                f"the list has {len(stores)} stores; the demo runs up to {LIGHT_LIMIT}",
                hint="cut the list, or set up a bus of your own: hq init --help",
            )

    def _bring_the_chain_up(self) -> None:
        chain = self._chain
        self._act(
            "The chain opens",
            f"broker, hub, {_REAL_AGENTS - 1} real agents and {len(self._light)} light ones;"
            " one store stays dark",
        )
        chain.let_in(self._devices, self._light)
        chain.start_hub()
        chain.start_light_devices()
        chain.join(self._devices)
        self._say(
            f"each has joined with a bundle of its own (hq device add, storeagent join);"
            f" the {len(self._light)} light ones were given keys"
        )
        for device in self._devices[:-1]:
            chain.start_agent(device)
        there = len(self._light) + _REAL_AGENTS - 1
        self._progress(
            "devices there",
            lambda: (self._online(), there),
            seconds=_CATCH_UP_SECONDS,
        )
        dark = self._devices[-1].identity.store
        self._say(f"dark: {dark} {self._names[dark]}")

    def _first_directive(self) -> None:
        self._act("A directive", f"to every {self._role} of region {self._region}")
        directive_id = self._publish(
            "Set up the seasonal promotion",
            "--body",
            "Front table, two facings, price cards from page 3.",
            *("--region", self._region, "--role", self._role),
            *("--kind", "task", "--needs", "done", "--due", "Friday 18:00"),
        )
        first = self._devices[0]
        number = self._number(first, directive_id)
        self._command("storeagent done", str(number), "--by Ana", at=first)
        self._chain.agent(first, "done", str(number), "--by", "Ana")
        for device in self._devices[1:-1]:
            self._chain.agent(device, "done", str(self._number(device, directive_id)))
        dark = 1
        total = self._journal.directives[directive_id]
        self._progress("done", lambda: (self._met(directive_id), total), until=total - dark)
        self._command("hq who", directive_id[:8], "--state pending")
        for missing in json.loads(
            self._chain.hq("who", directive_id[:8], "--state", "pending", "--json")
        ):
            self._say(f"who has not: {missing['store']} {missing['name']}, {missing['role']}")

    def _script_and_replies(self) -> None:
        chain, device = self._chain, self._devices[1]
        self._act("A script in a store", "reads its stock list and raises what runs out")
        stock = _stock_file(chain.folder)
        self._command("python replenish.py", stock.name, at=device)
        said = chain.script(device, "storeagent.samples.replenish", str(stock))
        low = int(said.split()[0])
        self._journal.alerts += low
        self._say("and again, as a scheduler would: nothing is raised twice")
        chain.script(device, "storeagent.samples.replenish", str(stock))
        self._command("storeagent report stock", stock.name, at=device)
        chain.agent(device, "report", "stock", str(stock))
        self._journal.report_rows += len(stock.read_text(encoding="utf-8").splitlines()) - 1
        self._progress("alerts at head office", lambda: (self._arrived()["alerts"], low))
        for alert in arrival_views.alerts(self._ledger.connection, None, 3):
            fields = alert["fields"]
            self._say(
                f"{alert['store']}: {fields['sku']} {alert['note']},"
                f" {fields['on_hand']} left, reorder at {fields['reorder_point']}"
            )

    def _broker_dies(self) -> None:
        chain = self._chain
        self._act("The broker dies", "SIGKILL, in the middle of a recall to every store")
        directive_id = self._publish(
            "Pull lot 2231 of the oat drink now",
            *("--body", "Off the shelf, into the back, seal it."),
            *("--all", "--kind", "recall", "--needs", "done", "--priority", "urgent"),
        )
        total = self._journal.directives[directive_id]
        wait_for(lambda: self._delivered(directive_id), seconds=20, what="the first receipt")
        chain.kill("broker")
        self._say(
            f"killed with {self._delivered(directive_id)} of {total} delivered"
            f" and {self._met(directive_id)} done"
        )
        self._say("the stores go on: a reply, an incident and another count, with no network")
        first = self._devices[0]
        for device in self._devices[:-1]:
            chain.agent(device, "alert", "incident", "--what", "cooler 2 is warm")
            self._journal.alerts += 1
        number = self._any_number(first)
        if number is not None:
            chain.agent(first, "reply", str(number), "We need two more price cards")
            self._journal.replies += 1
        second = self._publish(
            "New return procedure from today", *("--all", "--needs", "read"), quiet=True
        )
        self._say("and head office has issued another directive meanwhile: it is in the ledger")
        chain.start_broker()
        self._say("the broker is back, with an empty memory")
        for one in (directive_id, second):
            self._answer_on_real_agents(one)
        self._progress("done", lambda: (self._met(directive_id), total), until=total - 1)
        self._progress(
            "read",
            lambda: (self._met(second), self._journal.directives[second]),
            until=self._journal.directives[second] - 1,
        )

    def _store_returns(self) -> None:
        device = self._devices[-1]
        self._act("The dark store opens", f"{device.identity.store} catches up")
        self._chain.start_agent(device)
        wanted = len(self._journal.directives)
        found = wait_for(
            lambda: inbox if len(inbox := self._inbox(device)) >= wanted else None,
            seconds=_CATCH_UP_SECONDS,
            what="the dark store to catch up",
        )
        self._command("storeagent inbox", at=device)
        for work in found:
            self._say(f"{work['number']:>3}  {work['priority']:<7} {work['title']}")
        for work in found:
            verb = "done" if work["needs"] == "done" else "read"
            self._chain.agent(device, verb, str(work["number"]))

    def _settle(self) -> Proof:
        self._act("The proof", "what was accepted, against what took effect")
        issued = sum(self._journal.directives.values())
        self._progress(
            "answered",
            lambda: (sum(self._met(one) for one in self._journal.directives), issued),
        )
        wait_for(
            lambda: (
                self._arrived()["replies"] >= self._journal.replies
                and self._arrived()["alerts"] >= self._journal.alerts
                and self._arrived()["report rows"] >= self._journal.report_rows
                and not self._chain.light_totals().get("unacknowledged", 1)
            ),
            seconds=_CATCH_UP_SECONDS,
            what="everything to be acknowledged",
        )
        connection = self._ledger.connection
        known = {
            one: views.one_directive(connection, directives.find(connection, one))
            for one in self._journal.directives
        }
        proof = prove(
            self._journal,
            known,
            arrived=self._arrived(),
            shown={
                str(device.identity): [
                    f"{work['directive']}/{work['role']}"
                    for work in self._inbox(device, everything=True)
                ]
                for device in self._devices
            },
            light=self._chain.light_totals(),
        )
        self._ledger.close()
        checked = json.loads(self._chain.hq("verify", "--json"))
        self._command("hq verify")
        self._say(
            f"{checked['messages']} messages of stores bear good signatures, with"
            f" {checked['records']} entries; nothing is missing between them"
        )
        return proof

    # --- looking ---------------------------------------------------------------------------------

    def _online(self) -> int:
        return sum(store["devices_online"] for store in store_views.stores(self._ledger.connection))

    def _counts(self, directive_id: str) -> dict[str, Any]:
        connection = self._ledger.connection
        return views.counts_of(connection, directives.find(connection, directive_id))

    def _met(self, directive_id: str) -> int:
        return int(self._counts(directive_id)["met"])

    def _delivered(self, directive_id: str) -> int:
        counts = self._counts(directive_id)
        return int(counts["known"] - counts["states"]["pending"])

    def _arrived(self) -> dict[str, int]:
        connection = self._ledger.connection
        return {
            "alerts": len(arrival_views.alerts(connection, None, 1_000_000)),
            "replies": len(arrival_views.replies(connection, None, 1_000_000)),
            "report rows": sum(one["rows"] for one in arrival_views.reports(connection, 1_000_000)),
        }

    def _inbox(self, device: Device, *, everything: bool = False) -> list[dict[str, Any]]:
        words = ("inbox", "--json", *(("--all",) if everything else ()))
        found: list[dict[str, Any]] = json.loads(self._chain.agent(device, *words))
        return found

    def _number(self, device: Device, directive_id: str) -> int:
        def look() -> int | None:
            for work in self._inbox(device):
                if work["directive"] == directive_id:
                    return int(work["number"])
            return None

        number: int = wait_for(
            look, seconds=_CATCH_UP_SECONDS, what=f"the directive at {device.identity}"
        )
        return number

    def _any_number(self, device: Device) -> int | None:
        found = self._inbox(device, everything=True)
        return int(found[0]["number"]) if found else None

    def _answer_on_real_agents(self, directive_id: str) -> None:
        for device in self._devices[:-1]:
            self._number(device, directive_id)
            self._chain.agent(device, "done", directive_id[:12])

    def _publish(self, title: str, *words: str, quiet: bool = False) -> str:
        if not quiet:
            self._command("hq publish", *(_quoted(word) for word in (title, *words)))
        issued = json.loads(self._chain.hq("publish", title, *words, "--json"))
        self._journal.directives[issued["id"]] = issued["mailboxes"]
        if not quiet:
            self._say(
                f"{issued['mailboxes']} mailboxes, {len(issued['channels'])} channel(s):"
                f" {', '.join(issued['channels'][:3])}"
            )
        return str(issued["id"])

    # --- telling ---------------------------------------------------------------------------------

    def _act(self, title: str, what: str) -> None:
        seconds = time.monotonic() - self._began
        bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
        print(f"\n{seconds:5.1f} s  {bold}{title}{plain}: {what}", flush=True)  # noqa: T201

    def _say(self, text: str) -> None:
        print(f"         {printable(text)}", flush=True)  # noqa: T201

    def _command(self, *words: str, at: Device | None = None) -> None:
        where = f"{at.identity.store}" if at else "hq"
        print(f"         {where}$ {printable(' '.join(words))}", flush=True)  # noqa: T201

    def _progress(
        self,
        what: str,
        look: Callable[[], tuple[int, int]],
        *,
        until: int | None = None,
        seconds: float = _CATCH_UP_SECONDS,
    ) -> None:
        """Show a bar fill up until it is full, or as full as it can be."""
        on_terminal = sys.stdout.isatty()
        deadline = time.monotonic() + seconds
        said_at = 0.0
        said = -1
        while True:
            count, total = look()
            enough = count >= (total if until is None else until)
            now = time.monotonic()
            every = _TERMINAL_EVERY_SECONDS if on_terminal else _PIPE_EVERY_SECONDS
            if enough or (count != said and now - said_at >= every):
                line = (
                    f"         {bar((count, '#'), (total - count, '.'))} {count} of {total} {what}"
                )
                print(  # noqa: T201
                    f"\r{line}\x1b[K" if on_terminal else line,
                    end="\n" if enough or not on_terminal else "",
                    flush=True,
                )
                said, said_at = count, now
            if enough:
                return
            if now > deadline:
                raise DemoError(f"{count} of {total} {what} after {seconds:g} s")
            time.sleep(0.03)


def show(proof: Proof, sheet: Sheet) -> None:
    """Print the proof."""
    sheet.show(
        proof.rows,
        [
            Column("title", "directive"),
            Column("issued", "issued", right=True),
            Column("delivered", "delivered", right=True),
            Column("read", "read", right=True),
            Column("done", "done", right=True),
            Column("cannot", "cannot", right=True),
            Column("needs", "needs"),
        ],
        as_json=False,
        empty="nothing was issued",
    )
    print(f"\nlost {proof.lost}, twice {proof.twice}")  # noqa: T201


def _quoted(word: str) -> str:
    return word if word and not set(word) & set(" '\"") else f'"{word}"'


def _stock_file(folder: Path) -> Path:
    """A copy of the sample stock list in the demo's folder."""
    from importlib.resources import files  # noqa: PLC0415 - here only

    copy = folder / "stock.csv"
    copy.write_bytes((files("storeagent.samples") / "stock.csv").read_bytes())
    return copy
