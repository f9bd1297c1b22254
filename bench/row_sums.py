"""What it costs that rows carry a sum: the same code with its sums against it without them.

Without, `row_sum` gives nothing and `require_sum` looks at nothing; the column is still there, so
that its few bytes are no part of the ratio. Both sides take turns in one run, on the same files.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

from bench.figures import Figure, Setting, median, paired_ratio
from bench.processes import new_id
from buskit.database import Database
from buswire.cursors import START
from buswire.topics import Channel
from hqconsole.ledger import channels
from hqconsole.ledger.opening import open_ledger
from storeagent import outbox
from storeagent.database import database_path, open_agent_database
from storeagent.outbox import Outbox

_ENTRIES = 500
"""So many in one transaction, and so many read at once."""
_DATA = b'{"type":"replenishment","fields":{"sku":"6901234","on_hand":3,"reorder_point":12}}'
_DOCUMENT = b'{"title":"Golden Week promotion","body":"%s"}' % (
    b"set up the shelf by Friday. " * 30
)
_CHANNEL = Channel.parse("all/any")
_ALL = 1 << 40


def _no_sum(*_values: object) -> int:
    return 0


def _no_look(*_values: object) -> None:
    pass


@contextlib.contextmanager
def _without_sums() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module in (outbox, channels):
            stack.enter_context(mock.patch.object(module, "row_sum", _no_sum))
            stack.enter_context(mock.patch.object(module, "require_sum", _no_look))
        yield


def run(setting: Setting) -> Sequence[Figure]:
    """Measure writing and reading, at a device and at head office."""
    (setting.folder / "agent").mkdir()
    (setting.folder / "hq").mkdir()
    turns = setting.pick(200, 10)
    with (
        open_agent_database(database_path(setting.folder / "agent"), create=True) as device,
        open_ledger(setting.folder / "hq", create=True) as ledger,
    ):
        outbox_ = Outbox(device)
        # What is read comes first, and was written with its sums.
        _say(device, outbox_, _ENTRIES)
        _issue(ledger, _ENTRIES)
        return [
            _figure(
                "sums.read",
                f"entries of an outbox read to be sent, {_ENTRIES} at once",
                lambda: outbox_.entries("act", after=0, most=_ENTRIES, most_bytes=_ALL),
                _ENTRIES,
                turns,
            ),
            _figure(
                "sums.replay",
                f"records of a channel read to be sent, with documents of {len(_DOCUMENT)} bytes",
                lambda: channels.replay(ledger.connection, {_CHANNEL: START}, most_bytes=_ALL),
                _ENTRIES,
                turns,
            ),
            _figure(
                "sums.write",
                f"entries of an outbox written, {_ENTRIES} in a transaction",
                lambda: _say(device, outbox_, _ENTRIES),
                _ENTRIES,
                turns // 2,
            ),
            _figure(
                "sums.alert",
                "entries of an outbox written, each durable by itself",
                lambda: _say(device, outbox_, 1),
                1,
                turns * 5,
            ),
        ]


def _say(device: Database, outbox_: Outbox, count: int) -> None:
    with device.write():
        for _ in range(count):
            outbox_.add("act", new_id(), "alert", _DATA, said_at=time.time())


def _issue(ledger: Database, count: int) -> None:
    with ledger.write() as connection:
        for _ in range(count):
            doc_no = channels.add_doc(connection, "directive", _DOCUMENT)
            channels.append(connection, [_CHANNEL], doc_no, at=time.time(), new_id=new_id)


def _figure(name: str, what: str, do: Callable[[], object], rows: int, turns: int) -> Figure:
    """Do it with and without by turns; the ratio is that of the speeds."""
    with_sums: list[float] = []
    without: list[float] = []

    def seconds() -> float:
        began = time.perf_counter()
        do()
        return (time.perf_counter() - began) / rows

    for turn in range(turns):
        if turn % 2:
            with_sums.append(seconds())
        with _without_sums():
            without.append(seconds())
        if not turn % 2:
            with_sums.append(seconds())
    return Figure(
        name,
        what,
        1 / median(with_sums),
        "/s",
        paired_ratio(without, with_sums),
        detail={
            "without_per_second": round(1 / median(without)),
            "microseconds_each": round(1e6 * (median(with_sums) - median(without)), 2),
        },
    )
