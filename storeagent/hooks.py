"""The hook: a command of the store's choice that runs when work arrives, or somebody is reminded.

Owns when it runs, how long it may, and what happens when it fails. Must not know MQTT. Works on a
thread and a database connection of its own, so that it never holds up the bus.

Invariants:
- At least once for each arrival and reopening of work that is still to do when its turn comes: how
  far it got is saved after each run, so a run that a crash cut short is repeated.
- At least once for each reminder, and for each piece of work that is forced from now on, while it
  is open: of several reminders of one piece of work that wait for their turn the latest is told.
- One at a time, what arrived before what was said of it later, each in its order.
- A run ends within the time limit, with all that it started where the system allows that; after so
  many failures the arrival is set aside, and the next one has its turn.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from buskit import defects
from buskit.database import Database, DatabaseDamaged, DatabaseError
from storeagent import work
from storeagent.database import database_path, open_agent_database
from storeagent.delivery import Event, HookFailure, Item
from storeagent.inbox import Inbox
from storeagent.memory import Memory
from storeagent.mending import suspect
from storeagent.settings import HookSettings

ARRIVAL = "arrival"
"""The event of work that arrives or opens again; the others are `reminders`'."""

_CURSOR = "hook_arrival"
_EVENT_CURSOR = "hook_event"
_AT_ONCE = 20
_LOOK_SECONDS = 60.0  # it is woken when something arrives; this is for what nobody announced
_ERROR_BYTES = 500
_MOST_PAUSE_SECONDS = 300.0
_DATABASE_PAUSE_SECONDS = 5.0


class HookFailed(Exception):  # noqa: N818 - it names what happened
    """One run did not succeed; the message says how."""


class Hooks:
    """Runs the hook for what arrives and is said later. Whoever starts it owes a `stop`."""

    def __init__(
        self, home: Path, settings: HookSettings, *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Prepare the thread.

        Args:
            home: The device's home.
            settings: Which command, and how often.
            say: Takes a line for people when something fails.
        """
        self._home = home
        self._settings = settings
        self._say = say
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hook", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin with what arrived since the last run that succeeded."""
        self._thread.start()

    def wake(self) -> None:
        """Something may have arrived; from any thread, cheap."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; a command that is running is ended too, and runs again next time."""
        self._stopping.set()
        self._wake.set()
        process = self._process
        if process is not None:
            _end(process)
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with open_agent_database(database_path(self._home)) as database:
                    self._work(database)
            except DatabaseError as error:
                if isinstance(error, DatabaseDamaged):
                    suspect(self._home)
                # The daemon has the same trouble and says so in the status; here only try again.
                self._say(f"the hook waits: {error}")
                self._stopping.wait(_DATABASE_PAUSE_SECONDS)

    def _work(self, database: Database) -> None:
        inbox, memory = Inbox(database), Memory(database)
        while not self._stopping.is_set():
            self._wake.clear()
            items = inbox.items_since(memory.number(_CURSOR), _AT_ONCE)
            for item in items:
                if item.delivery.todo and not self._serve(item, ARRIVAL, database):
                    return
                with database.write():
                    memory.keep(_CURSOR, item.delivery.arrival)
            if items:
                continue
            events = inbox.events_since(memory.number(_EVENT_CURSOR), 1)
            for event in events:
                if not self._serve_event(event, inbox, database):
                    return
                with database.write():
                    memory.keep(_EVENT_CURSOR, event.number)
            if not events:
                self._wake.wait(_LOOK_SECONDS)

    def _serve_event(self, event: Event, inbox: Inbox, database: Database) -> bool:
        """Run the hook for one event, unless its work is open no more; False when stopping."""
        item = inbox.item(event.directive, event.role)
        if item is None or not item.delivery.open:
            return True
        return self._serve(item, event.kind, database)

    def _serve(self, item: Item, event: str, database: Database) -> bool:
        """Run the hook for one event until it succeeds or is set aside; False when stopping."""
        inbox, memory = Inbox(database), Memory(database)
        zone = work.zone_of(memory.facts().timezone)
        data = inbox.directive_data(item.delivery.directive) or b"{}"
        told = work.as_dict(item, zone, time.time(), data=data)
        told["store_name"] = memory.facts().name
        told["event"] = event
        error = ""
        for attempt in range(self._settings.attempts):
            if attempt:
                pause = self._settings.pause_seconds * 2 ** (attempt - 1)
                self._stopping.wait(min(pause, _MOST_PAUSE_SECONDS))
            if self._stopping.is_set():
                return False
            try:
                self._call(told)
            except HookFailed as failed:
                error = str(failed)
            except Exception as failed:
                error = defects.told(failed)
            else:
                return True
        if self._stopping.is_set():
            return False
        if event != ARRIVAL:
            error = f"{event}: {error}"
        self._say(f"the hook failed for work {item.delivery.number}: {error}")
        with database.write():
            inbox.set_hook_failure_aside(
                HookFailure(
                    item.delivery.arrival,
                    item.delivery.directive,
                    item.delivery.role,
                    error,
                    time.time(),
                )
            )
        return True

    def _call(self, told: Mapping[str, Any]) -> None:
        """Run the command once.

        Raises:
            HookFailed: It could not be started, took too long, or ended with an error.
        """
        # Its complaints go to a file: a pipe would stay open as long as whatever it has started.
        with tempfile.TemporaryFile() as complaints:
            try:
                self._process = process = _start(self._settings.command, told, complaints)
            except (OSError, ValueError) as error:
                raise HookFailed(f"it cannot be started: {error}") from error
            try:
                if self._stopping.is_set():
                    _end(process)
                text = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
                process.communicate(text, timeout=self._settings.timeout_seconds)
            except subprocess.TimeoutExpired:
                raise HookFailed(f"it took over {self._settings.timeout_seconds:g} s") from None
            finally:
                _end(process)
                self._process = None
            if process.returncode:
                complaints.seek(0, os.SEEK_END)
                complaints.seek(max(0, complaints.tell() - _ERROR_BYTES))
                last = complaints.read().decode("utf-8", "replace").strip()
                raise HookFailed(f"it ended with {process.returncode}: {last}".rstrip(": "))


def _start(
    command: str | tuple[str, ...], told: Mapping[str, Any], complaints: Any
) -> subprocess.Popen[bytes]:
    variables = {
        "STOREBUS_EVENT": told["event"],
        "STOREBUS_NUMBER": told["number"],
        "STOREBUS_DIRECTIVE": told["directive"],
        "STOREBUS_ROLE": told["role"],
        "STOREBUS_TITLE": told["title"],
        "STOREBUS_KIND": told["kind"],
        "STOREBUS_PRIORITY": told["priority"],
        "STOREBUS_DUE": told["due"] or "",
        "STOREBUS_STATE": told["state"],
    }
    return subprocess.Popen(  # noqa: S603 - the store's own settings say what is run
        command if isinstance(command, str) else list(command),
        shell=isinstance(command, str),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=complaints,
        env={**os.environ, **{name: _plain(value) for name, value in variables.items()}},
        start_new_session=sys.platform != "win32",
    )


def _plain(value: object) -> str:
    return str(value).replace("\0", "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with all that it started, as far as the system has a word for that."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5.0)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
