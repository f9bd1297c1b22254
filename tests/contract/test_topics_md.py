"""`topics.md` says of topics, messages, records, states and limits what `buswire/` does."""

import json
from dataclasses import asdict
from typing import Any

import msgspec
import pytest

from buswire import cursors, frame, messages, names, trust
from buswire.device import Timing
from buswire.messages import DEVICE_KINDS, HQ_KINDS, MESSAGE_KINDS, decode_data, encode_data
from buswire.signing import PublicKey, check_seal, parse_signature, proof_bytes
from buswire.states import CLOSED_BY_HQ, MACHINE, SAYABLE, STORE_RANK, Moves, Needs, State, is_open
from buswire.topics import CATALOGUE, DEFAULT_ROOT, Topics
from tests.contract import examples
from tests.contract.markdown import ROOT, Section, sections, words

PAGE = "topics.md"
JOIN = "storebus/v1/join/5d2c1b0a99887766"
CHAPTERS = sections(PAGE, 2)
PARTS = {
    "Cursor": cursors.Cursor,
    "Record": messages.Record,
    "Work": messages.Work,
    "Backlog": messages.Backlog,
    "Answer": messages.Answer,
    "StoreFacts": messages.StoreFacts,
    "SnapshotItem": messages.SnapshotItem,
    "KeyEntry": trust.KeyEntry,
    "Audience": messages.Audience,
    "Reason": messages.Reason,
    "Reminder": messages.Reminder,
}
RECORD_CHAPTERS = {
    "What HQ's records say": HQ_KINDS,
    "What a device's records say": DEVICE_KINDS,
}


def _below(chapter: str) -> dict[str, Section]:
    """The sections of one chapter."""
    text = CHAPTERS[chapter].lines
    return {
        title: section for title, section in sections(PAGE, 3).items() if f"### {title}" in text
    }


def _check_fields(section: Section, struct: Any) -> None:
    """The table of fields names those of the struct, in its order, and which are needed."""
    heading, *rows = section.tables()[0]
    assert heading == ["field", "needed", "what"], section.title
    said = {words(field)[0]: needed for field, needed, _ in rows}
    assert said == {
        field.encode_name: "yes" if field.required else "no"
        for field in msgspec.structs.fields(struct)
    }, section.title
    assert list(said) == [field.encode_name for field in msgspec.structs.fields(struct)]
    assert all(what for _, _, what in rows), f"{section.title} has a field without a meaning"


def _required(struct: Any) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct) if field.required}


def _topic_of_example(section: Section) -> str:
    (line,) = (line for line in section.lines if line.startswith("On `"))
    return words(line)[0]


def _read(example: str, topic: str) -> messages.AnyMessage:
    """The example as a reader of that topic takes it: its signature is checked."""
    return frame.read(example.encode(), topic, examples.KEYS.get)


def test_the_table_of_topics_is_the_catalogue() -> None:
    """Every topic with its publisher, its readers, its messages and whether it is retained."""
    heading, *rows = CHAPTERS["Topics"].tables()[0]
    assert heading == ["name", "topic", "published by", "heard by", "retained", "messages"]
    said = [
        (name, words(topic), publisher, subscriber, retained, tuple(words(kinds)))
        for name, topic, publisher, subscriber, retained, kinds in rows
    ]
    assert said == [
        (
            rule.name,
            [f"<root>/{rule.pattern}"],
            rule.publisher,
            rule.subscriber,
            "yes" if rule.retained else "no",
            rule.messages,
        )
        for rule in CATALOGUE
    ]
    assert f"`{DEFAULT_ROOT}`" in "\n".join(CHAPTERS["Topics"].lines)


def test_every_message_of_the_catalogue_exists_and_travels_somewhere() -> None:
    """No topic carries an unknown message, and no message is without a topic."""
    travelling = {kind for rule in CATALOGUE for kind in rule.messages}
    assert travelling == MESSAGE_KINDS.keys()


def test_the_frame_is_the_one_that_is_described() -> None:
    """The example in the chapter on the frame is a payload."""
    (example,) = CHAPTERS["The frame"].blocks()
    topic = _topic_of_example(CHAPTERS["The frame"])
    assert _read(example, topic) == messages.Nudge(reason="work without a receipt")


def test_the_page_has_every_message_and_no_other() -> None:
    """One section for each."""
    assert _below("Messages").keys() == MESSAGE_KINDS.keys()


@pytest.mark.parametrize("kind", MESSAGE_KINDS)
def test_the_example_of_a_message_is_one(kind: str) -> None:
    """It decodes, comes out the same again (so no field in it is passed over), and is whole."""
    section = _below("Messages")[kind]
    struct = MESSAGE_KINDS[kind]
    _check_fields(section, struct)
    (example,) = section.blocks()
    topic = _topic_of_example(section)
    message = _read(example, topic)
    assert type(message) is struct
    assert Topics().parse(topic).kind in {r.name for r in CATALOGUE if kind in r.messages}
    said = json.loads(example.partition("\n")[2])
    key = examples.speaker(topic, example)
    assert json.loads(frame.encode(message, topic, key).partition(b"\n")[2]) == said
    assert said.keys() >= _required(struct)
    topics = {rule.name for rule in CATALOGUE if kind in rule.messages}
    goes = next(line for line in section.lines if line.startswith("Goes:"))
    assert set(words(goes)) & {rule.name for rule in CATALOGUE} == topics


@pytest.mark.parametrize("chapter", RECORD_CHAPTERS)
def test_the_page_has_every_kind_of_record_and_no_other(chapter: str) -> None:
    """One section for each, under the side that writes it."""
    assert _below(chapter).keys() == RECORD_CHAPTERS[chapter].keys()


@pytest.mark.parametrize(
    ("chapter", "kind"),
    [(chapter, kind) for chapter, kinds in RECORD_CHAPTERS.items() for kind in kinds],
)
def test_the_example_of_a_record_is_one(chapter: str, kind: str) -> None:
    """It decodes as its kind, comes out the same again, and has every field there is."""
    kinds = RECORD_CHAPTERS[chapter]
    section = _below(chapter)[kind]
    _check_fields(section, kinds[kind])
    (example,) = section.blocks()
    data = decode_data(kind, example.encode(), kinds)
    said = json.loads(example)
    assert json.loads(encode_data(data)) == said
    assert said.keys() == {field.encode_name for field in msgspec.structs.fields(kinds[kind])}


def test_an_original_holds_a_directive() -> None:
    """What the example sends back is itself a record's data."""
    (example,) = _below("What a device's records say")["original"].blocks()
    original = decode_data("original", example.encode(), DEVICE_KINDS)
    assert decode_data(original.kind, original.data, HQ_KINDS).title
    check_seal(examples.HQ.public, original.kind, bytes(original.data), original.seal)


def test_the_examples_of_joining_prove_their_keys() -> None:
    """The proof is the device key's, and HQ names that key."""
    asked, answered = (
        _read(_below("Messages")[kind].blocks()[0], topic)
        for kind, topic in [("join", JOIN), ("joined", JOIN)]
    )
    assert isinstance(asked, messages.Join)
    assert isinstance(answered, messages.Joined)
    key = PublicKey.parse(asked.device_key)
    proof = proof_bytes(JOIN.rpartition("/")[2], asked.token_hash)
    assert key.verifies(parse_signature(asked.proof), proof)
    assert key.id == answered.key == examples.DEVICE.id


def test_the_parts_of_messages_are_described() -> None:
    """Every struct that stands inside a message, field by field."""
    below = _below("Parts of messages")
    assert below.keys() == PARTS.keys()
    for name, struct in PARTS.items():
        _check_fields(below[name], struct)


def test_no_struct_of_the_contract_is_left_out() -> None:
    """Whoever adds one finds out here that people have to be told."""
    described = {*PARTS.values(), *MESSAGE_KINDS.values(), *HQ_KINDS.values()}
    described |= {*DEVICE_KINDS.values(), messages.Message}
    there = {
        thing
        for thing in vars(messages).values()
        if isinstance(thing, type) and issubclass(thing, msgspec.Struct)
    }
    assert there <= described


def test_the_table_of_states_is_the_code() -> None:
    """Who says a state, its rank, and for whom the delivery is then still open."""
    heading, *rows = CHAPTERS["States of a delivery"].tables()[0]
    assert heading[:4] == ["state", "said by", "rank", "still open when HQ needs"]
    assert [words(row[0])[0] for row in rows] == [state.value for state in State]
    for cell, said_by, rank, needs, meaning in rows:
        state = State(words(cell)[0])
        assert said_by.startswith("the store") is (state in SAYABLE)
        assert (said_by == "HQ") is (state in CLOSED_BY_HQ)
        assert rank == str(STORE_RANK.get(state, ""))
        assert words(needs) == [need.value for need in Needs if is_open(state, need)]
        assert meaning


def test_the_machine_of_a_delivery_is_the_code() -> None:
    """Every move that there is, from every state, and no other."""
    _, *rows = CHAPTERS["States of a delivery"].tables()[1]
    said = {
        State(words(state)[0]): Moves(*(frozenset(map(State, words(cell))) for cell in cells))
        for state, *cells in rows
    }
    assert said == MACHINE


def test_the_limits_are_the_constants() -> None:
    """Sizes as the code has them, all of them."""
    _, *rows = CHAPTERS["Limits"].tables()[0]
    said = {words(name)[0]: int(value) for name, value, _ in rows}
    constants = {
        name: value
        for module in (messages, names)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, int)
    }
    assert said == constants


def test_the_waits_are_the_defaults() -> None:
    """How long a device waits for what, as the code has it."""
    _, *rows = CHAPTERS["Limits"].tables()[1]
    assert {words(name)[0]: float(value) for name, value, _ in rows} == asdict(Timing())


def test_the_table_of_contents_is_complete() -> None:
    """Every chapter, in order."""
    before = (ROOT / PAGE).read_text(encoding="utf-8").partition("\n## ")[0].splitlines()
    listed = [line.partition("[")[2].partition("]")[0] for line in before if line[:3] == "- ["]
    assert listed == list(CHAPTERS)
