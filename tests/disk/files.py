"""Power cuts while files beside the databases are written, and databases are made and replaced.

Each story is something that the product does to a folder. Its disk is looked at behind every step,
several times with different parts of what was not yet durable; then each such folder must be as it
was before or as it is after, the same thing done again must succeed, and what was said to be done
must be done. HQ and other machines, which keep their power, are outside of the folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from buskit.database import Database, DatabaseMissing, open_database
from buskit.homes import read_settings, write_settings
from buswire.access import decode_access
from buswire.joining import Bundle
from buswire.signing import SigningKey
from buswire.topics import Identity
from hqconsole import keyring
from hqconsole.access_file import FILE_NAME as ACCESS_NAME
from hqconsole.access_file import AccessFileWriter
from hqconsole.commands.main import main as hq_main
from hqconsole.home import new_id
from hqconsole.ledger import organisation
from hqconsole.ledger.opening import FILE_NAME as LEDGER_NAME
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.schema import MIGRATIONS
from storeagent import database as agent_database
from storeagent.database import open_agent_database
from storeagent.join_home import JoinHome
from storeagent.keys import read_key, seed_text
from storeagent.limits import Limits
from storeagent.mending import mend
from storeagent.outbox import Outbox
from storeagent.settings import read_agent_settings
from storeagent.statements import Statements
from storeagent.status import DaemonStatus, read_status, write_status
from tests.disk.databases import content, soundness
from tests.disk.shim import GO_ON, Op, Shim
from tests.disk.volume import Image, Volume, write_image
from tests.faults.rows import Row
from tests.helpers.hq_keys import MemoryKeys
from tests.simulation.people import make_store

Note = Callable[[Any], None]


@dataclass(frozen=True)
class Story:
    """Something that the product does to a folder.

    Attributes:
        prepare: Makes the folder's content, before the power can go.
        act: Does it; may `note` what the world outside has come to know.
        judge: Raises if a folder is not as it may be after a power cut; told what was noted last,
            and whether `act` had returned. It also does the thing again.
    """

    prepare: Callable[[Path], None]
    act: Callable[[Path, Note], None]
    judge: Callable[[Path, Any, bool], None]


def _hq(*words: str) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = hq_main.run(list(words), "hq")
    assert code == 0, said.getvalue()


# --- a device -------------------------------------------------------------------------------------

_IDENTITY = Identity("S001", "till-1")
_KEYS = MemoryKeys(lambda: b"HQ's own key, for these tests...".ljust(32, b"."))


def _bundle(number: int) -> Bundle:
    return Bundle(
        id=f"{number:016x}",
        root="storebus/v1",
        store=_IDENTITY.store,
        device=_IDENTITY.device,
        roles=["manager"],
        brokers=["mqtt://127.0.0.1:1"],
        ca="a certificate\n",
        trust=_KEYS.trusted(),
        token="b" * 43,
        invite=seed_text(SigningKey(b"an invitation".ljust(32, b".")).seed),
    )


def _join(root: Path, bundle: Bundle, accepted: str | None, note: Note) -> None:
    """What `storeagent join` does; HQ takes one key for each bundle, and says so each time."""
    place = JoinHome(root / "home", bundle)
    if place.joined_before:
        place.drop_draft()
        return
    place.make()
    draft = place.prepare()
    assert accepted in {None, draft.seed}, "HQ has let in a key that the device has lost"
    note(draft.seed)
    place.finish(draft, certificate="")


def _judge_joined(root: Path, bundle: Bundle, accepted: str | None, *, done: bool) -> None:
    if not done:
        _join(root, bundle, accepted, lambda seed: None)
    home = root / "home"
    settings = read_agent_settings(home)
    key = read_key(home, _IDENTITY, settings.root)
    assert accepted is None or key.seed == accepted, "not the key that HQ has let in"
    assert key.bundle == bundle.id
    with open_agent_database(home / agent_database.FILE_NAME) as database:
        assert not soundness(database)


def _joining() -> Story:
    return Story(
        lambda root: None,
        lambda root, note: _join(root, _bundle(1), None, note),
        lambda root, noted, done: _judge_joined(root, _bundle(1), noted, done=done),
    )


def _joining_again() -> Story:
    said: dict[str, Any] = {}

    def prepare(root: Path) -> None:
        _join(root, _bundle(1), None, lambda seed: None)
        with open_agent_database(root / "home" / agent_database.FILE_NAME) as database:
            say = Statements(database, wall_clock=time.time)
            said["id"] = say.alert("incident", {"what": "a leak"}).id

    def judge(root: Path, noted: Any, done: bool) -> None:
        home = root / "home"
        before = read_key(home, _IDENTITY, "storebus/v1").bundle  # one of the two, at any moment
        assert before == _bundle(2).id or not done
        _judge_joined(root, _bundle(2), noted, done=done)
        with open_agent_database(home / agent_database.FILE_NAME) as database:
            (count,) = database.connection.execute(
                "SELECT count(*) FROM act WHERE id = ?", (bytes.fromhex(said["id"]),)
            ).fetchone()
        assert count == 1, "an alert of before is gone"

    return Story(prepare, lambda root, note: _join(root, _bundle(2), None, note), judge)


def _upgrade() -> Story:
    """A program with one more migration meets a database of the one before."""

    def opened(root: Path, migrations: Sequence[Any], *, create: bool = False) -> Any:
        return open_database(
            root / "agent.db",
            migrations,
            application_id=agent_database.APPLICATION_ID,
            what="the agent's database",
            hint_create="",
            create=create,
        )

    def _meta(database: Database) -> list[Any]:
        return database.connection.execute("SELECT key, value FROM meta").fetchall()

    old: dict[str, Any] = {}

    def prepare(root: Path) -> None:
        with opened(root, agent_database.MIGRATIONS[:1], create=True) as database:
            with database.write() as connection:
                connection.execute("INSERT INTO meta (key, value) VALUES ('install', 'x')")
            old["rows"] = _meta(database)

    def judge(root: Path, noted: Any, done: bool) -> None:
        with opened(root, agent_database.MIGRATIONS) as database:
            assert not soundness(database)
            assert _meta(database) == old["rows"]

    return Story(prepare, lambda root, note: opened(root, agent_database.MIGRATIONS).close(), judge)


def _status() -> Story:
    status = DaemonStatus(pid=7, started_at=5.0, problem="a problem " * 100)

    def judge(root: Path, noted: Any, done: bool) -> None:
        read_status(root)
        write_status(root, status)
        assert read_status(root) == status

    return Story(
        lambda root: write_status(root, DaemonStatus(pid=6)),
        lambda root, note: write_status(root, status),
        judge,
    )


def _settings() -> Story:
    old, new = {"store": "S001", "n": 1}, {"store": "S001", "n": 2, "roles": ["a"] * 200}

    def judge(root: Path, noted: Any, done: bool) -> None:
        found = read_settings(root / "agent.toml")
        assert found == new or (found == old and not done)

    return Story(
        lambda root: write_settings(root / "agent.toml", old),
        lambda root, note: write_settings(root / "agent.toml", new),
        judge,
    )


# --- head office ----------------------------------------------------------------------------------


def _init() -> Story:
    def judge(root: Path, noted: Any, done: bool) -> None:
        home = root / "hq"
        if done:
            keyring.Keyring.load(home)
            read_settings(home / "hq.toml")
        _hq("init", "--home", str(home))
        keyring.Keyring.load(home)
        assert (home / "keys" / keyring.RECOVERY_NAME).exists(), "the recovery key is gone"
        decode_access((home / ACCESS_NAME).read_bytes())
        with open_ledger(home) as ledger:
            assert not soundness(ledger)

    return Story(
        lambda root: None, lambda root, note: _hq("init", "--home", str(root / "hq")), judge
    )


def _keys(change: Callable[[Path], Any]) -> Story:
    """The keys change: HQ has those of before or the new ones, and can sign, always."""
    before: dict[str, Any] = {}

    def prepare(root: Path) -> None:
        before["entries"] = keyring.create(root, at=100.0).entries

    def judge(root: Path, noted: Any, done: bool) -> None:
        keys = keyring.Keyring.load(root)
        keys.signing(1e9)
        more = len(keys.entries) - len(before["entries"])
        assert keys.entries[: len(before["entries"])] == before["entries"]
        assert more == 1 or (more == 0 and not done)
        keyring.rotate(root, 0.0, 1e10)

    return Story(prepare, lambda root, note: change(root), judge)


def _new_keys() -> Story:
    def judge(root: Path, noted: Any, done: bool) -> None:
        assert keyring.exists(root) or not done
        keyring.create(root, at=100.0).signing(100.0)

    return Story(lambda root: None, lambda root, note: keyring.create(root, at=100.0), judge)


def _roster(home: Path, *numbers: int) -> None:
    with open_ledger(home) as ledger, ledger.write() as connection:
        rows = [make_store(number, "east", ("clerk",)) for number in numbers]
        organisation.save_roster(connection, rows, at=1.0, new_id=new_id)


def _access() -> Story:
    def prepare(root: Path) -> None:
        open_ledger(root, create=True).close()
        with open_ledger(root) as ledger:
            AccessFileWriter(root, "storebus/v1").refresh(ledger, 1.0)
        _roster(root, 1)

    def act(root: Path, note: Note) -> None:
        with open_ledger(root) as ledger:
            assert AccessFileWriter(root, "storebus/v1").refresh(ledger, 2.0)

    def judge(root: Path, noted: Any, done: bool) -> None:
        decode_access((root / ACCESS_NAME).read_bytes())
        act(root, lambda value: None)

    return Story(prepare, act, judge)


def _first_ledger() -> Story:
    def judge(root: Path, noted: Any, done: bool) -> None:
        with open_ledger(root, create=not done) as ledger:
            assert not soundness(ledger)
            assert len(content(ledger)) > 10

    return Story(
        lambda root: None, lambda root, note: open_ledger(root, create=True).close(), judge
    )


def _backup() -> Story:
    states: list[Any] = []

    def prepare(root: Path) -> None:
        states.clear()
        open_ledger(root, create=True).close()
        for numbers in ((1,), (1, 2, 3)):
            _roster(root, *numbers)
            with open_ledger(root) as ledger:
                states.append(content(ledger))
                if numbers == (1,):
                    ledger.backup(root / "copy")

    def act(root: Path, note: Note) -> None:
        with open_ledger(root) as ledger:
            ledger.backup(root / "copy")

    def judge(root: Path, noted: Any, done: bool) -> None:
        (root / "alone").mkdir()
        shutil.copy(root / "copy", root / "alone" / LEDGER_NAME)
        with open_ledger(root / "alone") as copy:
            assert not soundness(copy)
            assert content(copy) in (states[1:] if done else states)
        act(root, lambda value: None)

    return Story(prepare, act, judge)


def _restore() -> Story:
    """A copy is put back: the ledger is the one or the other, never a mixture."""

    def prepare(root: Path) -> None:
        home = root / "hq"
        _hq("init", "--home", str(home))
        _roster(home, 1, 2)
        with open_ledger(home) as ledger:
            ledger.backup(root / "copy")
        _roster(home, *range(1, 60))

    def act(root: Path, note: Note) -> None:
        _hq("restore", str(root / "copy"), "--yes", "--home", str(root / "hq"))

    def judge(root: Path, noted: Any, done: bool) -> None:
        with open_ledger(root / "hq") as ledger:
            assert not soundness(ledger)
            (count,) = ledger.connection.execute("SELECT count(*) FROM store").fetchone()
            (put_back,) = ledger.connection.execute(
                "SELECT count(*) FROM incident WHERE kind = 'restored'"
            ).fetchone()
            assert (count, put_back) in ({(2, 1)} if done else {(2, 1), (59, 0)}), (count, put_back)
        act(root, lambda value: None)

    return Story(prepare, act, judge)


def _leave_log(path: Path, database: Database, change: Callable[[], None]) -> None:
    """Change a database and end as with SIGKILL: the change is in its write-ahead log only."""
    with database:
        database.checkpoint()
        change()
        for suffix in _PARTS:
            shutil.copyfile(f"{path}{suffix}", f"{path}{suffix}.left")
    for suffix in _PARTS:
        Path(f"{path}{suffix}.left").replace(f"{path}{suffix}")


def _restore_over_unusable() -> Story:
    """The ledger that lies there cannot be opened, and its log must not get into the new one."""
    newer = 999

    def prepare(root: Path) -> None:
        home = root / "hq"
        _hq("init", "--home", str(home))
        _roster(home, 1, 2)
        ledger = open_ledger(home)
        ledger.backup(root / "copy")

        def change() -> None:
            with ledger.write() as connection:
                rows = [make_store(number, "east", ("clerk",)) for number in range(1, 60)]
                organisation.save_roster(connection, rows, at=1.0, new_id=new_id)
                connection.execute(f"PRAGMA user_version = {newer}")

        _leave_log(home / LEDGER_NAME, ledger, change)

    def act(root: Path, note: Note) -> None:
        _hq("restore", str(root / "copy"), "--yes", "--home", str(root / "hq"))

    def judge(root: Path, noted: Any, done: bool) -> None:
        path = root / "hq" / LEDGER_NAME
        with contextlib.closing(sqlite3.connect(path)) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            (version,) = raw.execute("PRAGMA user_version").fetchone()
            (count,) = raw.execute("SELECT count(*) FROM store").fetchone()
            (put_back,) = raw.execute(
                "SELECT count(*) FROM incident WHERE kind = 'restored'"
            ).fetchone()
        new = (len(MIGRATIONS), 2, 1)
        found = version, count, put_back
        assert found in ({new} if done else {new, (newer, 59, 0)}), found
        act(root, lambda value: None)
        with open_ledger(root / "hq") as ledger:
            ledger.check()

    return Story(prepare, act, judge)


def _say_fire(say: Statements) -> None:
    for number in range(30):
        say.alert("incident", {"what": f"fire {number}"})


def _mending() -> Story:
    """A device's database is replaced by one with what could be saved, here all of it."""
    path = Path("agent.db")

    def alerts(root: Path) -> list[str]:
        with open_agent_database(root / path) as database:
            database.check()
            entries = Outbox(database).entries("act", after=0, most=99, most_bytes=1 << 20)
        return [one.record.kind for one in entries]

    def prepare(root: Path) -> None:
        database = open_agent_database(root / path, create=True)
        say = Statements(database, wall_clock=lambda: 1e9)
        for number in range(9):
            say.alert("incident", {"what": f"leak {number} {'x' * 400}"})
        _leave_log(
            root / path,
            database,
            lambda: _say_fire(say),
        )

    def act(root: Path, note: Note) -> None:
        mend(root, limits=Limits(), why="a test", at=1e9, new_id=new_id)

    def judge(root: Path, noted: Any, done: bool) -> None:
        old = ["alert"] * 39
        new = [*old, "trouble"]
        try:
            found = alerts(root)
        except DatabaseMissing:  # nobody can accept anything into it
            assert not done
            act(root, lambda value: None)
            found = alerts(root)
            assert found == new, found
        assert found in ([new] if done else [old, new]), found
        act(root, lambda value: None)
        assert alerts(root) == [*found, "trouble"]

    return Story(prepare, act, judge)


_PARTS = ("", "-wal")
STORIES: dict[str, Callable[[], Story]] = {
    "join": _joining,
    "join again": _joining_again,
    "upgrade": _upgrade,
    "daemon status": _status,
    "settings": _settings,
    "hq init": _init,
    "new keys": _new_keys,
    "key rotation": lambda: _keys(lambda root: keyring.rotate(root, 0.0, 1e9)),
    "key recovery": lambda: _keys(
        lambda root: keyring.recover(
            root, root / "keys" / keyring.RECOVERY_NAME, stolen=True, at=1e9
        )
    ),
    "access file": _access,
    "first ledger": _first_ledger,
    "backup": _backup,
    "restore": _restore,
    "restore over what cannot be opened": _restore_over_unusable,
    "mending": _mending,
}


def cut_power_in(shim: Shim, name: str, random: Random, *, each: int, row: Row, most: int) -> None:
    """Live through a story, and judge what a power cut at each step would have left.

    Args:
        shim: What shows the steps.
        name: Of the story.
        random: What becomes of what is not durable.
        each: So many images are taken behind each step.
        row: Where faults and figures go.
        most: So many images are judged at most.
    """
    story = STORIES[name]()
    root = shim.root / "story"
    root.mkdir()
    try:
        story.prepare(root)
        images, steps = _live(shim, story, root, random, each)
    finally:
        shutil.rmtree(root)
    distinct = {_stamp(image): (image, noted, done) for image, noted, done in images}
    chosen = list(distinct.values())
    random.shuffle(chosen)
    chosen.sort(key=lambda one: not one[2])  # what was said to be done is judged in any case
    for image, noted, done in chosen[:most]:
        write_image(image, root)
        try:
            story.judge(root, noted, done)
        except BaseException as error:  # noqa: BLE001, RUF100 - whatever it is, it must not be
            when = "after it was done" if done else "in the middle"
            names = ", ".join(f"{n}:{'dir' if c is None else len(c)}" for n, c in image.items())
            row.wrong.append(
                f"{name}, power cut {when}: {type(error).__name__}: {str(error)[:300]} ({names})"
            )
        finally:
            shutil.rmtree(root)
        row.times += 1
    if not steps:
        row.wrong.append(f"{name}: the shim saw nothing of it")


def _stamp(image: Image) -> str:
    return json.dumps(sorted((name, repr(content)) for name, content in image.items()))


def _live(
    shim: Shim, story: Story, root: Path, random: Random, each: int
) -> tuple[list[tuple[Image, Any, bool]], int]:
    """Do it once, with its disk looked at behind each step."""
    volume = Volume(root, random)
    images: list[tuple[Image, Any, bool]] = []
    noted: list[Any] = [None]
    steps = 0

    def look(op: Op, name: str) -> int:
        nonlocal steps
        steps += 1
        images.extend((volume.crash(random), noted[0], False) for _ in range(each))
        return GO_ON

    volume.watch = look
    shim.add(root.name, volume)
    try:
        story.act(root, lambda value: noted.__setitem__(0, value))
        volume.watch = None
        images.extend((volume.crash(random), noted[0], True) for _ in range(5 * each))
    finally:
        shim.remove(root.name)
        shim.check()
    return images, steps


assert os.name == "posix"
