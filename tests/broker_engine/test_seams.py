"""What of amqtt the embedded broker leans on; an upgrade that moves it fails here and not later."""

import importlib.metadata
import inspect

import pytest
from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker

from broker.engine import LISTENER, StorebusBroker
from broker.streams import StreamReader, StreamWriter
from tests.broker_engine.engines import Ours, connected

OVERRIDDEN = {
    "__init__": "(self, config: amqtt.contexts.BrokerConfig | dict[str, typing.Any] | None = None, "
    "loop: asyncio.events.AbstractEventLoop | None = None, "
    "plugin_namespace: str | None = None) -> None",
    "_broadcast_message": "(self, session: amqtt.session.Session | None, topic: str | None, "
    "data: bytes | bytearray | None, force_qos: int | None = None) -> None",
    "_client_connected": "(self, listener_name: str, reader: amqtt.adapters.ReaderAdapter, "
    "writer: amqtt.adapters.WriterAdapter) -> None",
    "_session_monitor": "(self) -> None",
    "retain_message": "(self, source_session: amqtt.session.Session | None, "
    "topic_name: str | None, data: bytes | bytearray | None, qos: int | None = None) -> None",
    "shutdown": "(self) -> None",
}
CALLED = {
    "external_connected": "(self, reader: amqtt.adapters.ReaderAdapter, "
    "writer: amqtt.adapters.WriterAdapter, listener_name: str) -> None",
    "internal_message_broadcast": "(self, topic: str, data: bytes, qos: int | None = None) -> None",
    "start": "(self) -> None",
}


def test_version_is_pinned() -> None:
    """The version that these names were read in."""
    assert importlib.metadata.version("amqtt") == "0.12.1"


@pytest.mark.parametrize(("name", "signature"), (OVERRIDDEN | CALLED).items())
def test_signatures(name: str, signature: str) -> None:
    """Every method of amqtt that is overridden or called looks as it did."""
    method = getattr(Broker, name)
    found = str(inspect.signature(method)).replace("'", "")
    assert found == signature
    if name != "__init__":
        assert inspect.iscoroutinefunction(method)


def test_list_of_overrides_is_complete() -> None:
    """No method of amqtt's Broker is overridden that is not named above."""
    ours = {name for name in vars(StorebusBroker) if hasattr(Broker, name)}
    ordinary = {"__module__", "__doc__", "__firstlineno__", "__static_attributes__"}
    assert ours - ordinary == set(OVERRIDDEN)


@pytest.mark.parametrize(
    ("adapter", "ours"), [(ReaderAdapter, StreamReader), (WriterAdapter, StreamWriter)]
)
def test_adapters_are_whole(adapter: type, ours: type) -> None:
    """Our adapters implement all of amqtt's, and its list has not grown."""
    expected = {
        ReaderAdapter: {"read", "feed_eof"},
        WriterAdapter: {"write", "drain", "get_peer_info", "get_ssl_info", "close"},
    }
    assert adapter.__abstractmethods__ == expected[adapter]
    assert not ours.__abstractmethods__


def test_amqtt_calls_what_is_overridden(engine: Ours) -> None:
    """Its own doors for publishing and retaining lead to our subscribers."""
    inner = engine.server._engine
    assert set(inner._servers) == {LISTENER}
    assert inner.plugins_manager._plugins == []
    with connected(engine.port) as client:
        client.subscribe("a")
        engine._run(inner.internal_message_broadcast("a", b"from within", 0))
        engine._run(inner.retain_message(None, "b", b"kept"))
        assert [m.payload for m in client.messages_so_far()] == [b"from within"]
        client.subscribe("b")
        assert [m.payload for m in client.messages_so_far()] == [b"kept"]
        with pytest.raises(ValueError, match="no topic name"):
            engine._run(inner.internal_message_broadcast("a/#", b"x"))
