"""Settings of a link: what cannot work is refused before it is tried, and passwords stay hidden."""

import pytest

from buskit.link_settings import (
    Address,
    LinkSettings,
    LinkSettingsError,
    Publication,
    check_filter,
)


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "header"),
    [
        ("mqtt://hq.example", "hq.example", 1883, None, "hq.example:1883"),
        ("mqtt://10.0.0.1:2883/", "10.0.0.1", 2883, None, "10.0.0.1:2883"),
        ("ws://hq.example", "hq.example", 80, "/mqtt", "hq.example"),
        ("ws://[::1]:8083/a?b=c", "::1", 8083, "/a?b=c", "[::1]:8083"),
        ("mqtts://hq.example", "hq.example", 8883, None, "hq.example:8883"),
        ("mqtts://[::1]:1", "::1", 1, None, "[::1]:1"),
        ("wss://hq.example/bus", "hq.example", 443, "/bus", "hq.example"),
        ("wss://hq.example:80", "hq.example", 80, "/mqtt", "hq.example:80"),
    ],
)
def test_addresses_are_taken_apart(
    url: str, host: str, port: int, path: str | None, header: str
) -> None:
    """Ports and paths have defaults, and IPv6 is understood."""
    address = Address.parse(url)
    assert (address.host, address.port, address.path) == (host, port, path)
    assert address.host_header == header
    assert address.tls == url.startswith(("mqtts", "wss"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hq.example:1883",
        "http://hq.example",
        "mqtt://",
        "mqtt://h:99999",
        "mqtt://h:port",
        "mqtt://h/path",
        "mqtt://user:secret@h",
        "ws://h/with space",
        "ws://h/caf\u00e9",
        "mqtts://h/path",
        "mqtts://",
        "wss://h/with space",
        "mqtt://[::1",
    ],
)
def test_what_is_no_address_is_refused_with_a_hint(url: str) -> None:
    """A wrong address is a usage error that says how one looks, and shows no password."""
    with pytest.raises(LinkSettingsError) as caught:
        LinkSettings((url,), "me")
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert "secret" not in str(caught.value)


def test_settings_that_cannot_work_are_refused() -> None:
    """No address, no client id, a password for nobody, a keepalive that is none."""
    good = ("mqtt://h",)
    for bad in (
        {"addresses": (), "client_id": "c"},
        {"addresses": good, "client_id": ""},
        {"addresses": good, "client_id": "c", "password": "p"},
        {"addresses": good, "client_id": "c", "keepalive_seconds": 0},
    ):
        with pytest.raises(LinkSettingsError):
            LinkSettings(**bad)


def test_a_password_never_shows() -> None:
    """The settings can be printed without giving the password away."""
    assert "secret" not in repr(LinkSettings(("mqtt://h",), "c", "user", "secret"))


def test_topics_and_filters_follow_the_standard() -> None:
    """Wildcards are for filters, and stand where MQTT lets them stand."""
    for topic in ("", "a/+", "#", "a\0b", "x" * 65536):
        with pytest.raises(ValueError, match="topic name"):
            Publication(topic, b"")
    with pytest.raises(ValueError, match="QoS"):
        Publication("a", b"", qos=2)
    for good in ("a", "+", "#", "a/+/b", "/", "a/#", "+/+/#", "$SYS/x"):
        check_filter(good)
    for bad in ("", "a+", "a/b#", "#/a", "a/#/b", "++", "a\0"):
        with pytest.raises(ValueError, match="topic filter"):
            check_filter(bad)
