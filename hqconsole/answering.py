"""The answer to one hello, read from the ledger: welcome, then replay or the pages of a snapshot.

Owns what an answer is made of and what a hello leaves behind in the ledger (presence, heads heard,
incidents). The decision between replay and snapshot is `buswire.headoffice`'s; sending is the
desk's, after the commit of the transaction that this works in.
"""

import sqlite3
from collections.abc import Callable

import msgspec

from buswire.cursors import Cursor
from buswire.errors import WireError
from buswire.headoffice import Replay, entries_lost, has_forgotten, judge
from buswire.messages import (
    LOGS,
    Answer,
    AnyMessage,
    Backlog,
    Hello,
    Log,
    Snapshot,
    SnapshotItem,
    Welcome,
    Work,
)
from buswire.states import State
from buswire.topics import Channel
from buswire.trust import KeyEntry
from hqconsole.ledger import (
    adoption,
    archived,
    channels,
    deliveries,
    devices,
    directives,
    forgotten,
    organisation,
)
from hqconsole.ledger.devices import Device
from hqconsole.ledger.troubles import record_incident
from hqconsole.timing import DeskTiming

_CURSORS_MOST = 300
"""A device has three channels for each of its roles, and those of roles and regions it had."""
_WANTED_AT_ONCE = 20
"""So many forgotten directives one welcome asks a device for."""


class Answering:
    """One hello at work."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        device: Device,
        hello: Hello,
        *,
        run: str,
        at: float,
        new_id: Callable[[], str],
        timing: DeskTiming,
        keys: list[KeyEntry],
        measures_clock: bool = True,
    ) -> None:
        """Take the hello of a known device, and the transaction to answer it in."""
        self._connection = connection
        self._device = device
        self._hello = hello
        self._run = run
        self._at = at
        self._new_id = new_id
        self._timing = timing
        self._answer_id = new_id()
        self._keys = keys
        self._measures_clock = measures_clock

    def messages(self) -> list[AnyMessage]:
        """Note what the hello says, and make its answer; the welcome comes first."""
        connection, device, hello = self._connection, self._device, self._hello
        self._note_history()
        devices.note_hello(
            connection, device, hello, at=self._at, measures_clock=self._measures_clock
        )
        uplink, lost = self._uplinks()
        place = device.place
        set_of_device = organisation.channels_for(place, device.identity.store, device.roles)
        heads = channels.heads(connection, set_of_device)
        logs = channels.Logs(connection)
        decision = judge(
            hello,
            set_version=place.set_version,
            heads=heads,
            logs=logs,
            most_records=self._timing.replay_records,
        )
        messages: list[AnyMessage] = []
        through: dict[Channel, Cursor] = {}
        replays = isinstance(decision, Replay)
        if isinstance(decision, Replay):
            replayed, through = channels.replay(
                connection, decision.after, most_bytes=self._timing.replay_bytes
            )
            messages += replayed
        else:
            messages += self._snapshot()
        welcome = Welcome(
            nonce=hello.nonce,
            run=self._run,
            at=self._at,
            mode="replay" if replays else "snapshot",
            set_version=place.set_version,
            heads={str(channel): head for channel, head in heads.items()},
            through={str(channel): cursor for channel, cursor in through.items()},
            pages=0 if replays else len(messages),
            answer=self._answer_id,
            uplink=uplink,
            answers=[self._answer(work) for work in hello.unsure],
            want=forgotten.wanted_of(connection, device.no, most=_WANTED_AT_ONCE, at=self._at),
            # Where every cursor was found in the logs, nothing is forgotten.
            forgot=not replays and has_forgotten(self._own_cursors(), logs),
            lost=lost,
            store=place.facts,
            keys=self._keys,
        )
        return [welcome, *messages]

    def _own_cursors(self) -> Hello:
        """The hello without cursors of channels that were never its own, whoever asks for them.

        A store moves from region to region, so every region's may have been.
        """
        device = self._device
        own: dict[str, Cursor] = {}
        for text, cursor in self._hello.cursors.items():
            try:
                channel = Channel.parse(text)
            except WireError:
                continue
            kind, _, place = channel.place.partition("/")
            in_place = kind != "store" or place == device.identity.store
            if in_place and device.may_speak_for(channel.role):
                own[text] = cursor
            if len(own) >= _CURSORS_MOST:
                break
        return msgspec.structs.replace(self._hello, cursors=own)

    def _note_history(self) -> None:
        """Tell operators of a device whose database is not the one that was here before."""
        device, hello = self._device, self._hello
        if device.install and device.install != hello.install:
            self._incident("device set up anew")
        elif device.install and hello.cursors and hello.set_version.seq == 0:
            self._incident("device is an older copy, or HQ was")

    def _incident(self, kind: str, **detail: str | int) -> None:
        record_incident(self._connection, kind, at=self._at, device_no=self._device.no, **detail)

    def _uplinks(self) -> tuple[dict[Log, Cursor], dict[Log, int]]:
        """HQ's cursors in the device's logs, and how many entries may have died with its disk."""
        device, hello = self._device, self._hello
        cursors: dict[Log, Cursor] = {}
        lost: dict[Log, int] = {}
        new_disk = bool(device.install) and device.install != hello.install
        for log in LOGS:
            cursor, heard_head = devices.uplink(self._connection, device.no, log)
            backlog = hello.uplink.get(log, Backlog())
            cursors[log] = cursor
            missing = entries_lost(
                heard_head=heard_head, cursor=cursor, backlog=backlog, new_disk=new_disk
            )
            known_seq = cursor.seq if new_disk else backlog.acked.seq
            reaches = max(cursor.seq, known_seq + backlog.pending)
            if missing:
                lost[log] = missing
                self._incident("entries may be lost", log=log, entries=missing)
            devices.save_uplink(
                self._connection,
                device.no,
                log,
                cursor,
                heard_head=reaches if missing else max(heard_head, reaches),
                pending=backlog.pending,
            )
        return cursors, lost

    def _answer(self, work: Work) -> Answer:
        """What HQ knows of one piece of unsure work."""
        connection, device = self._connection, self._device
        store_no, roles = device.place.store_no, device.mailbox_roles
        known = deliveries.answer(connection, work, store_no, roles)
        if known is not None:
            return self._as_it_ended(known)
        directive_no = directives.number_of(connection, work.directive)
        if directive_no is None:
            its_turn = forgotten.ask(
                connection, work.directive, device.no, at=self._at, most=forgotten.ASKED_MOST
            )
            return Answer(work=work, verdict="unknown" if its_turn else "wait")
        its_own = [work.role] if device.may_speak_for(work.role) else []
        for mailbox_no in deliveries.mailboxes_of(connection, store_no, its_own):
            adoption.count_in(
                connection, directive_no, mailbox_no, at=self._at, new_id=self._new_id
            )
        known = deliveries.answer(connection, work, store_no, roles)
        return self._as_it_ended(known or Answer(work=work, verdict="gone"))

    def _as_it_ended(self, answer: Answer) -> Answer:
        """The same answer; of what has left for an archive, with how it ended."""
        if answer.verdict != "gone" or answer.state is not State.REMOVED:
            return answer
        directive_no = directives.number_of(self._connection, answer.work.directive)
        if directive_no is None:
            return answer
        ended = archived.end_of(
            self._connection, directive_no, self._device.identity.store, answer.work.role
        )
        return answer if ended is None else msgspec.structs.replace(answer, state=ended)

    def _snapshot(self) -> list[AnyMessage]:
        """The pages of a snapshot: none where nothing is open."""
        device = self._device
        mailboxes = deliveries.mailboxes_of(
            self._connection, device.place.store_no, device.mailbox_roles
        )
        pages: list[list[SnapshotItem]] = []
        size = self._timing.page_bytes
        for item in deliveries.open_work(self._connection, mailboxes):
            item_bytes = len(bytes(item.data)) + channels.RECORD_OVERHEAD_BYTES
            if size + item_bytes > self._timing.page_bytes:
                pages.append([])
                size = 0
            pages[-1].append(item)
            size += item_bytes
        return [
            Snapshot(
                nonce=self._hello.nonce,
                answer=self._answer_id,
                page=number,
                pages=len(pages),
                items=page,
            )
            for number, page in enumerate(pages, start=1)
        ]
