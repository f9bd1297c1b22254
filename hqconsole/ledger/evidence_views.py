"""What the ledger has of one directive that can be shown to a third party.

Reading only. Owns which rows belong to a directive's evidence; the file's form and its seal are
`hqconsole.evidence`'s, what it proves is `hqconsole.evidence_check`'s.
"""

import sqlite3
from typing import Any, NamedTuple

from hqconsole.errors import HqError

ANSWERS = (
    "SELECT message_no, arrival.id, kind, store.id, device.name, said_at, received_at, outcome,"
    " data FROM arrival CROSS JOIN device ON device.no = device_no"
    " CROSS JOIN store ON store.no = store_no"
    " WHERE directive_no = ? AND kind IN ('receipt', 'reply') ORDER BY arrival.no"
)


class Document(NamedTuple):
    """A document of HQ's, byte by byte, and its seal."""

    data: bytes
    seal: str


class SignedMessage(NamedTuple):
    """A device's message as it was kept."""

    key_no: int
    topic: str
    signature: str
    text: bytes
    received_at: float


class DeviceKey(NamedTuple):
    """A device's key, and HQ's signed word that it is that device's."""

    store: str
    device: str
    key_id: str
    public: bytes
    joined_topic: str
    joined_text: bytes
    joined_key: str
    joined_signature: str


class Answer(NamedTuple):
    """A receipt or a reply; `message_no` is None for one from before messages were signed."""

    message_no: int | None
    record: str
    kind: str
    store: str
    device: str
    said_at: float
    received_at: float
    outcome: str | None
    data: bytes


class DirectiveEvidence(NamedTuple):
    """Everything of one directive."""

    id: str
    directive: Document
    cancel: Document | None
    mailboxes: list[str]
    answers: list[Answer]
    messages: dict[int, SignedMessage]
    device_keys: dict[int, DeviceKey]


def gather(connection: sqlite3.Connection, directive_no: int) -> DirectiveEvidence:
    """Read all that proves a directive and its answers.

    Args:
        connection: In a read transaction.
        directive_no: Which.

    Raises:
        HqError: The hub has not sealed or signed something yet.
    """
    directive_id, data, seal = connection.execute(
        "SELECT id, data, seal FROM directive JOIN doc ON doc.no = doc_no WHERE directive.no = ?",
        (directive_no,),
    ).fetchone()
    cancel = connection.execute(
        "SELECT data, seal FROM cancel JOIN doc ON doc.no = doc_no WHERE directive_id = ?",
        (directive_id,),
    ).fetchone()
    if seal is None or (cancel is not None and cancel[1] is None):
        raise HqError(
            f"directive {directive_id[:8]} is not sealed yet"
            if seal is None
            else "its withdrawal is not sealed yet",
            hint="the hub seals what was issued: hq up (or hq hub), then try again",
        )
    mailboxes = sorted(
        f"{store}/{role}"
        for store, role in connection.execute(
            "SELECT store.id, role FROM delivery JOIN mailbox ON mailbox.no = mailbox_no"
            " JOIN store ON store.no = store_no WHERE directive_no = ?",
            (directive_no,),
        )
    )
    answers = [
        Answer._make([row[0], bytes(row[1]).hex(), *row[2:8], bytes(row[8])])
        for row in connection.execute(ANSWERS, (directive_no,))
    ]
    messages = _messages(connection, {one.message_no for one in answers if one.message_no})
    return DirectiveEvidence(
        directive_id,
        Document(bytes(data), seal),
        None if cancel is None else Document(bytes(cancel[0]), cancel[1]),
        mailboxes,
        answers,
        messages,
        _device_keys(connection, {message.key_no for message in messages.values()}),
    )


def _messages(connection: sqlite3.Connection, nos: set[int]) -> dict[int, SignedMessage]:
    found = {}
    for no in sorted(nos):
        key_no, topic, signature, text, received_at = connection.execute(
            "SELECT key_no, topic, signature, text, received_at FROM message WHERE no = ?", (no,)
        ).fetchone()
        found[no] = SignedMessage(key_no, topic, signature, bytes(text), received_at)
    return found


def _device_keys(connection: sqlite3.Connection, nos: set[int]) -> dict[int, DeviceKey]:
    found = {}
    for no in sorted(nos):
        row: tuple[Any, ...] = connection.execute(
            "SELECT store.id, device.name, key_id, public, joined_topic, joined_text, joined_key,"
            " joined_signature FROM device_key JOIN device ON device.no = device_no"
            " JOIN store ON store.no = store_no WHERE device_key.no = ?",
            (no,),
        ).fetchone()
        if row[5] is None:
            raise HqError(
                f"head office has not signed yet that the key of {row[0]}.{row[1]} is its key",
                hint="the hub does it when it runs: hq up (or hq hub), then try again",
            )
        found[no] = DeviceKey._make([*row[:3], bytes(row[3]), row[4], bytes(row[5]), *row[6:]])
    return found
