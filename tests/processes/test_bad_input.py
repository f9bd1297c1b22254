"""What no device of ours would say, said on the running bus: nothing crashes, nothing waits."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from buswire.signing import SigningKey, seal
from hqconsole.audience import Mailbox, digest
from hqconsole.home import new_id
from hqconsole.keyring import Keyring
from hqconsole.ledger.evidence import DATA
from tests.agent.processes import status, tool
from tests.helpers.waiting import wait_until
from tests.processes.chain import Chain
from tests.processes.stranger import FalseHub, Stranger, raw_publish, signed

STORES = ("S001", "S002")
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\r\x9b1m\u202etxt"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain of two stores for all tests of this module; it ends without a stack trace."""
    with Chain(tmp_path_factory.mktemp("chain"), STORES) as chain:
        yield chain


@pytest.fixture
def stranger(chain: Chain, request: pytest.FixtureRequest) -> Iterator[Stranger]:
    """A device of the store S001 that HQ let in and has not heard of before."""
    name = "x" + new_id()[:8]
    with Stranger(chain.bus.port, chain.home, "S001", name) as stranger:
        yield stranger


@pytest.fixture(autouse=True)
def _the_good_arrives(chain: Chain) -> Iterator[None]:
    """Behind every bad word a good one, down and up, arrives with the very same processes."""
    pids = [daemon.pid for daemon in (chain.hub, *chain.tills.values())]
    yield
    directive = chain.issue()
    numbers = [(till.store, chain.alert(till)) for till in chain.tills.values()]
    for store, number in numbers:
        chain.wait_arrived(store, number)
    wait_until(
        lambda: all(chain.states(directive)[store, "any"] == "delivered" for store in STORES),
        what="the directive behind the bad input",
    )
    assert [daemon.pid for daemon in (chain.hub, *chain.tills.values())] == pids
    assert chain.hub.returncode is None
    assert "Traceback" not in chain.hub.said()
    assert "cannot save" not in chain.hub.said()


def _aside(chain: Chain, source: str, reason: str) -> dict[str, Any]:
    """The entry that `hq quarantine` shows, once it does."""

    def look() -> dict[str, Any] | None:
        for entry in chain.hq_json("quarantine"):
            if entry["source"] == source and reason in entry["reason"]:
                return dict(entry)
        return None

    return wait_until(look, what=f"{reason!r} from {source} in quarantine", poll_seconds=0.1)


RUBBISH: dict[str, tuple[bytes, str]] = {
    "nothing at all": (b"", "not a message of storebus"),
    "garbage": (bytes(range(256)), "not a message of storebus"),
    "a megabyte of garbage": (bytes(range(256)) * 4000, "over the limit"),
    "a newer version": (b'storebus/2\n{"kind":"hello"}', "a message of version 'storebus/2'"),
    "no signature": (b'storebus/1\n{"kind":"bye"}', "a message without a signature"),
}
TEXTS: dict[str, tuple[bytes, str]] = {
    "an unknown kind": (b'{"kind":"gossip","text":"hm"}', "unknown message kind 'gossip'"),
    "no JSON": (b"{not json", "does not fit the contract"),
    "JSON cut off": (b'{"kind":"hello","nonce":"00', "does not fit the contract"),
    "missing fields": (b'{"kind":"hello"}', "does not fit the contract"),
    "wrong types": (b'{"kind":"bye","run":17}', "does not fit the contract"),
    "text that is no UTF-8": (b'{"kind":"bye","run":"\xff\xfe"}', "does not fit"),
    "half a surrogate": (b'{"kind":"bye","run":"\\ud800"}', "does not fit"),
    "very deep": (b'{"kind":' + b"[" * 100_000, "does not fit the contract"),
    "a list": (b"[1,2,3]", "does not fit the contract"),
    "a word of HQ": (
        json.dumps({"kind": "nudge", "reason": "do it"}).encode(),
        "a Nudge from a device",
    ),
    "an impossible number": (
        json.dumps({"kind": "records", "log": "act", "after": [2**70, ""], "records": []}).encode(),
        "does not fit the contract",
    ),
    "a negative number": (
        json.dumps({"kind": "records", "log": "act", "after": [-1, ""], "records": []}).encode(),
        "does not fit the contract",
    ),
}


def test_malformed_messages_are_put_aside_with_their_reason(
    chain: Chain, stranger: Stranger
) -> None:
    """Each kind of rubbish on a device's topic is one entry that `hq quarantine` shows."""
    for payload, _ in RUBBISH.values():
        stranger.publish(payload, stranger.source)
    stranger.publish(RUBBISH["garbage"][0], stranger.source)
    for text, _ in TEXTS.values():
        stranger.say_text(text)
    times = "SELECT sum(times) FROM quarantine WHERE source = ?"
    wait_until(
        lambda: chain.rows(times, stranger.source) == [(len(RUBBISH) + 1 + len(TEXTS),)],
        what="all of it in quarantine",
    )
    shown = [one for one in chain.hq_json("quarantine") if one["source"] == stranger.source]
    for name, (_, reason) in {**RUBBISH, **TEXTS}.items():
        entry = next(one for one in shown if reason in one["reason"])
        assert len(entry["payload"]) <= 4 * 4096, name
    (rubbish,) = [one for one in shown if "not a message of storebus" in one["reason"]]
    assert rubbish["times"] == 3  # nothing at all, and garbage twice


def test_topics_that_cannot_be_end_the_connection_and_those_of_others_reach_nobody(
    chain: Chain, stranger: Stranger
) -> None:
    """A topic that is no UTF-8 or has a wildcard; another device's, and HQ's own."""
    root = b"storebus/v1/"
    for topic in (b"from/S001/\xff\xfe", b"from/S001/\x1b[2J", b"from/S001/\0", b"from/+/x"):
        assert raw_publish(stranger, chain.bus.port, root + topic, b"x") == b"", topic
    before = chain.rows("SELECT count(*) FROM quarantine"), status(chain.till("S002").home)
    pong = b"\xd0\x00"
    for topic in (b"from/S002/till-1", b"to/S002/till-1", b"down/all/any", b"heads/west", b"hq"):
        assert raw_publish(stranger, chain.bus.port, root + topic, b"x") in {pong, b""}, topic
    chain.wait_arrived("S002", chain.alert(chain.till("S002")))
    after = chain.rows("SELECT count(*) FROM quarantine"), status(chain.till("S002").home)
    assert after[0] == before[0]
    assert after[1]["aside"] == before[1]["aside"]


def _directive_of_other_store(chain: Chain) -> str:
    directive = chain.issue("S002", role="manager")
    chain.wait_state(directive, "delivered")
    return directive


def _report(**changes: Any) -> dict[str, Any]:
    good = {"report": new_id(), "name": "sales", "part": 1, "parts": 2, "columns": [], "rows": []}
    return {"kind": "report", "data": {**good, **changes}}


def _receipt(directive: str, state: str = "done", role: str = "any") -> dict[str, Any]:
    return {"kind": "receipt", "data": {"directive": directive, "role": role, "state": state}}


def _original(data: Any, kind: str = "directive", seal: str = "") -> dict[str, Any]:
    original = {"kind": kind, "role": "any", "data": data, "seal": seal}
    return {"kind": "original", "data": original}


RECORDS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "an unknown kind": (
        lambda: {"kind": "gossip", "data": {"text": "hm"}},
        "unknown record kind 'gossip'",
    ),
    "a kind of HQ's": (
        lambda: {"kind": "directive", "data": {"id": new_id(), "title": "x"}},
        "unknown record kind 'directive'",
    ),
    "an alert without its kind": (lambda: {"data": {"fields": {}}}, "a alert record does not"),
    "an alert that is a list": (lambda: {"data": [1]}, "a alert record does not"),
    "fields in fields": (
        lambda: {"data": {"alert": "incident", "fields": {"a": {"b": 1}}}},
        "a alert record does not",
    ),
    "a receipt of no state": (lambda: _receipt(new_id(), "great"), "a receipt record does not"),
    "a receipt of no directive": (lambda: _receipt("everything"), "a receipt record does not"),
    "a part beyond all numbers": (lambda: _report(part=2**70, parts=2**71), "a report record"),
    "a part of nothing": (lambda: _report(part=0, parts=0), "a report record does not"),
    "an audience beyond all numbers": (
        lambda: _original(
            {"id": new_id(), "title": "x", "audience": {"mailboxes": 2**70, "digest": ""}}
        ),
        "a directive record does not",
    ),
    "an original that is none": (lambda: _original({"title": "x"}), "a directive record does not"),
    "an original of no kind": (lambda: _original({}, "gossip"), "a original record does not"),
}


def test_records_that_cannot_be_used_are_put_aside_and_those_beside_them_count(
    chain: Chain, stranger: Stranger
) -> None:
    """A bad record between two good ones: it is kept aside, acknowledged, and holds up nothing."""
    stranger.hello()
    device = stranger.source.rpartition("/")[2]
    good = []
    for name, (make, _) in RECORDS.items():
        number = f"beside {name} {new_id()}"
        good.append(number)
        stranger.records(make(), {"data": {"alert": "incident", "fields": {"what": number}}})
    stranger.wait_acknowledged()
    for number in good:
        assert chain.has_arrived("S001", number)
    shown = chain.hq_json("quarantine")
    for name, (_, reason) in RECORDS.items():
        assert any(
            one["source"] == f"S001.{device}" and reason in one["reason"] for one in shown
        ), (
            name,
            [one["reason"] for one in shown],
        )
    outcomes = chain.rows(
        "SELECT count(*) FROM arrival JOIN device ON device.no = device_no"
        " WHERE device.name = ? AND outcome = 'aside'",
        device,
    )
    assert outcomes == [(len(RECORDS),)]


def test_statements_about_work_that_is_not_the_stores_move_nothing(
    chain: Chain, stranger: Stranger
) -> None:
    """Another store's directive, a role that is not there, a state only HQ may give."""
    others = _directive_of_other_store(chain)
    own = chain.issue("S001")
    chain.wait_state(own, "delivered")
    before = chain.states(others), chain.states(own)
    stranger.hello()
    stranger.records(
        _receipt(others, role="manager"),
        _receipt(others),
        _receipt(own, role="emperor"),
        _receipt(own, "cancelled"),
        _receipt(own, "pending"),
        {"kind": "reply", "data": {"directive": others, "role": "any", "text": "not mine"}},
        _receipt(new_id()),
        {**_receipt(own, "read"), "at": 1e308},
    )
    stranger.wait_acknowledged()
    assert chain.states(others) == before[0]
    assert chain.states(own) == {("S001", "any"): "read"}
    device = stranger.source.rpartition("/")[2]
    outcomes = chain.rows(
        "SELECT outcome FROM arrival JOIN device ON device.no = device_no"
        " WHERE device.name = ? AND kind = 'receipt' ORDER BY arrival.no",
        device,
    )
    assert outcomes == [
        *[("stray",)] * 2,
        ("not its role",),
        *[("not a store's state",)] * 2,
        *[(None,)] * 2,
    ]
    chain.hq("status")
    chain.hq("tail", "--no-follow")
    chain.hq("who", own)


def test_numbers_from_the_past_and_the_future_save_nothing_twice_and_nothing_early(
    chain: Chain, stranger: Stranger
) -> None:
    """Old numbers are acknowledged and dropped; those ahead are refused with a nudge."""

    def alert(number: str) -> dict[str, Any]:
        return {"data": {"alert": "incident", "fields": {"what": number}}}

    stranger.hello()
    first, second = f"first {new_id()}", f"second {new_id()}"
    ids = stranger.records(alert(first), alert(second))
    stranger.wait_acknowledged()
    again = [{**alert(first), "id": ids[0]}, {**alert(second), "id": ids[1]}]
    stranger.records(*again, after=[0, ""])
    assert stranger.hear("ack")["cursor"] == [2, ids[1]]

    def refused() -> bool:  # nudges to one device are spaced, so it may take a second try
        stranger.records(alert("too early"), after=[700, new_id()])
        nudge = stranger.poll("nudge")
        return nudge is not None and "gap" in nudge["reason"]

    wait_until(refused, what="a nudge about the gap")
    stranger.records(alert("of another history"), after=[2, new_id()])
    stranger.records(alert("another first"), after=[0, ""])
    third = f"third {new_id()}"
    stranger.records(alert(third), {**alert(first), "id": ids[0]})  # an old id at a new number
    stranger.wait_acknowledged()
    texts = [
        json.loads(data)["fields"]["what"]
        for (data,) in chain.rows(
            f"SELECT {DATA} FROM arrival JOIN device ON device.no = device_no"
            " WHERE device.name = ? ORDER BY arrival.no",
            stranger.source.rpartition("/")[2],
        )
    ]
    assert texts == [first, second, third]


def test_rubbish_on_the_way_down_is_put_aside_at_the_device(chain: Chain) -> None:
    """What nobody can use on a device's own topics and channels is kept and said at the store."""
    till = chain.till("S001")
    root = "storebus/v1"
    thiefs = SigningKey(bytes(32))
    with FalseHub(chain.bus.port, chain.home) as false:
        for topic in (f"{root}/to/S001/till-1", f"{root}/down/all/any", f"{root}/heads/east"):
            for payload, _ in RUBBISH.values():
                false.publish(payload, topic)
            for text, _ in TEXTS.values():
                false.publish(signed(thiefs, topic, text), topic)
            record = {"id": new_id(), "kind": "directive", "at": 0, "data": {}}
            ahead = {"kind": "records", "log": "all/any", "after": [0, ""], "records": [record]}
            false.publish(signed(thiefs, topic, json.dumps(ahead).encode()), topic)
    notices = wait_until(lambda: status(till.home)["notices"], what="the notice at the store")
    assert any("aside" in notice or "cannot" in notice for notice in notices), notices
    assert till.returncode is None
    assert "Traceback" not in till.said()


def test_escape_sequences_never_reach_a_terminal(chain: Chain, stranger: Stranger) -> None:
    """Titles, bodies, replies, reasons and alerts with control codes are shown as escapes."""
    directive = chain.publish("S001", title=f"title {ESCAPES}", body=f"body {ESCAPES}\nline 2")
    chain.wait_state(directive, "delivered")
    till = chain.till("S001")
    item = next(item for item in till.inbox() if item["directive"] == directive)
    assert "\x1b" in item["title"]
    with till.program() as program:
        program.reply(item["number"], f"reply {ESCAPES}", by=ESCAPES)
        program.alert("incident", what=ESCAPES, note=ESCAPES)
        program.cannot(item["number"], code="no-staff", reason=ESCAPES, by=ESCAPES)
    chain.wait_state(directive, "cannot")
    stranger.hello()
    stranger.records(
        {"kind": "trouble", "data": {"what": ESCAPES, "detail": ESCAPES}},
        {"kind": f"k{ESCAPES}"[:40], "data": {}},
    )
    stranger.wait_acknowledged()
    shown = [
        chain.hq(*words)
        for words in (
            ("status",),
            ("status", directive),
            ("who", directive, "--state", "cannot"),
            ("cannot", directive),
            ("why", "S001", directive),
            ("board", "--once"),
            ("search", "reply"),
            ("handover", "S001", "any"),
            ("replies",),
            ("alerts",),
            ("tail", "--no-follow"),
            ("quarantine",),
            ("incidents",),
            ("stores",),
            ("replies", "--json"),
            ("tail", "--no-follow", "--json"),
        )
    ]
    shown += [
        tool(*words, home=till.home).stdout
        for words in (("inbox", "--all"), ("show", str(item["number"])), ("status",))
    ]
    for text in shown:
        assert text.strip()
        for code in ("\x1b", "\x07", "\r", "\x9b", "\u202e"):
            assert code not in text, (code, text)


def test_dates_beyond_all_calendars_can_still_be_shown(chain: Chain, stranger: Stranger) -> None:
    """A clock that is off by ages, in hello, records and an original, stops no command."""
    stranger.hello(clock_at=-1e308)
    directive = new_id()
    original = {
        "id": directive,
        "title": "from the end of time",
        "needs": "done",
        "issued_at": 1e300,
        "expires_at": 1e300,
        "due": "tomorrow, perhaps",
        "audience": {
            "mailboxes": 1,
            "digest": digest([Mailbox("S001", "any")]),
            "channels": ["store/S001/any", "no/such/thing"],
        },
    }
    sealed = json.dumps(original).encode()
    key = Keyring.load(chain.home).signing(0.0)
    stranger.records(
        {**_original(original, seal=seal(key, "directive", sealed)), "at": 1e308},
        {**_receipt(directive, "read"), "at": 1e308},
        {
            "kind": "reply",
            "at": -1e308,
            "data": {"directive": directive, "role": "any", "text": "?"},
        },
        {"at": 1e308, "data": {"alert": "incident", "fields": {"what": "late", "n": 1e300}}},
    )
    stranger.wait_acknowledged()
    till = chain.till("S001")
    item = wait_until(
        lambda: next((one for one in till.inbox() if one["directive"] == directive), None),
        what="the work at the store's other device",
    )
    assert item["title"] == "from the end of time"
    for words in (
        ("status",),
        ("status", directive),
        ("who", directive, "--state", "read"),
        ("replies",),
        ("alerts",),
        ("tail", "--no-follow"),
        ("stores",),
        ("incidents",),
        ("roster", "devices"),
    ):
        assert chain.hq(*words).strip(), words
    for words in (("status",), ("replies",), ("tail", "--no-follow")):
        chain.hq(*words, "--json")
    for words in (("inbox", "--all"), ("show", str(item["number"])), ("status",)):
        found = tool(*words, home=till.home)
        assert found.returncode == 0, (words, found.stderr)
    with till.program() as program:
        program.done(item["number"])
    chain.wait_state(directive, "done")
    chain.hq("cancel", directive)
