"""Topics: what is spelt is read again, and what is not of the contract is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buswire.errors import WireError
from buswire.names import identifier
from buswire.topics import CATALOGUE, Address, Channel, Identity, Topics, channels_of

NAMES = st.text("abcXYZ019-_東é", min_size=1, max_size=12).filter(lambda text: text[0] not in "-_")
CHANNELS = st.one_of(
    st.builds(lambda role: Channel("all", role), NAMES),
    st.builds(Channel.of_region, NAMES, NAMES),
    st.builds(Channel.of_store, NAMES, NAMES),
)


def _spelt(topics: Topics, address: Address) -> str:
    match address:
        case Address("hq"):
            return topics.hq
        case Address("heads"):
            return topics.heads(address.region)
        case Address("down"):
            assert address.channel is not None
            return topics.down(address.channel)
    assert address.identity is not None
    return (topics.to if address.kind == "to" else topics.from_)(address.identity)


@settings(max_examples=150, deadline=None)
@given(CHANNELS, NAMES, NAMES, st.sampled_from(["storebus/v1", "a", "chain/東/v1"]))
def test_every_topic_that_is_spelt_is_read_again(
    channel: Channel, store: str, device: str, root: str
) -> None:
    """Spelling and reading are inverse, for every kind, below any root."""
    topics = Topics(root)
    identity = Identity(identifier(store, "store"), identifier(device, "device"))
    assert topics.parse(topics.down(channel)) == Address("down", channel=channel)
    assert topics.parse(topics.heads(store)) == Address("heads", region=store)
    assert topics.parse(topics.to(identity)) == Address("to", identity=identity)
    assert topics.parse(topics.from_(identity)) == Address("from", identity=identity)
    assert topics.parse(topics.hq) == Address("hq")
    assert Channel.parse(str(channel)) == channel
    assert Identity.parse(str(identity)) == identity


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text("/adhlnoqrstuvw+#.", max_size=40)))
def test_any_text_is_a_topic_of_the_contract_or_a_wire_error(text: str) -> None:
    """Whatever a broker hands over is read or refused, and what is read is spelt the same."""
    topics = Topics()
    for topic in (text, f"{topics.root}/{text}", f"{topics.root}/down/{text}"):
        try:
            address = topics.parse(topic)
        except WireError:
            continue
        spelt = _spelt(topics, address)
        assert spelt == topic


@pytest.mark.parametrize(
    "topic",
    [
        "storebus/v1",
        "storebus/v1/",
        "storebus/v10/hq",
        "storebus/v1/hq/x",
        "storebus/v1/heads/",
        "storebus/v1/heads/a/b",
        "storebus/v1/down/all",
        "storebus/v1/down/all/",
        "storebus/v1/down//any",
        "storebus/v1/down/city/x/any",
        "storebus/v1/down/store//any",
        "storebus/v1/down/store/S1/x/any",
        "storebus/v1/to/S1",
        "storebus/v1/to/S1/",
        "storebus/v1/to//till-1",
        "storebus/v1/from/S1/till-1/x",
        "storebus/v1/from/S1.till-1/x",
        "storebus/v1/from/S1/a.b",
        "$SYS/broker/uptime",
    ],
)
def test_what_is_nearly_a_topic_is_refused(topic: str) -> None:
    """Missing, empty and surplus levels, and names that would be read as another device's."""
    with pytest.raises(WireError):
        Topics().parse(topic)


@pytest.mark.parametrize("root", ["", "/", "/a", "a/", "a/+", "#", "$SYS/x", "a\0b"])
def test_a_root_that_could_not_stand_in_a_topic_is_refused(root: str) -> None:
    """No wildcard, no leading or trailing slash, nothing of the broker's own."""
    with pytest.raises(WireError, match="root"):
        Topics(root)


@pytest.mark.parametrize("text", ["", "S1", ".till", "S1.", "S1.a.b", "S1/till"])
def test_what_is_no_device_is_refused_with_a_hint(text: str) -> None:
    """A device is STORE.DEVICE with one dot."""
    with pytest.raises(WireError) as caught:
        Identity.parse(text)
    assert caught.value.hint


def test_a_device_hears_its_places_times_its_roles() -> None:
    """{all, its region, its store} x {any, its roles}, each once, and nothing of another's."""
    found = channels_of("S017", "east", ["manager", "any", "clerk", "manager"])
    assert len(found) == len(set(found)) == 9
    assert {channel.place for channel in found} == {"all", "region/east", "store/S017"}
    assert {channel.role for channel in found} == {"any", "clerk", "manager"}


def test_a_device_subscribes_to_exact_filters_only() -> None:
    """No wildcard anywhere: a broker that grants what is asked grants nothing of another store."""
    topics = Topics()
    identity = Identity("S017", "till-1")
    filters = topics.filters_of_device(identity, "east", channels_of("S017", "east", ["clerk"]))
    assert len(filters) == len(set(filters)) == 3 + 6
    assert not any(set(one) & set("+#") for one in filters)
    assert topics.from_(identity) not in filters
    assert topics.filters_of_device(identity, "", ()) == (topics.hq, topics.to(identity))


def test_the_hub_hears_every_device_who_joins_and_other_hubs() -> None:
    """Three filters are all of it."""
    filters = ("chain/from/+/+", "chain/join/+", "chain/hq")
    assert Topics("chain").filters_of_hub() == filters


def test_who_joins_has_a_topic_of_its_own() -> None:
    """It reads as the bundle's id and as nobody's identity."""
    address = Topics("chain").parse(Topics("chain").join("5d2c1b0a99887766"))
    assert (address.kind, address.join) == ("join", "5d2c1b0a99887766")
    assert address.identity is None
    with pytest.raises(WireError):
        Topics("chain").parse("chain/join/")


def test_the_catalogue_names_each_topic_once() -> None:
    """One row per kind of topic, and only HQ's own state is retained."""
    assert [rule.name for rule in CATALOGUE] == ["down", "heads", "to", "from", "hq", "join"]
    assert [rule.name for rule in CATALOGUE if rule.retained] == ["hq"]
