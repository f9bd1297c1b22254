"""A TLS handshake without a network: a link's own client against a server's context."""

import ssl
from typing import Any

from buskit.tls import Tls, TlsClient
from hqconsole.tls import TlsFiles


class Shaken:
    """What came of it.

    Attributes:
        version: The version that both agreed on.
        certificate: What the server saw of the client.
    """

    def __init__(self, version: str | None, certificate: dict[str, Any] | None) -> None:
        """Keep both."""
        self.version = version
        self.certificate = certificate


def server_context(files: TlsFiles, *, mutual: bool = False, newest: bool = True) -> ssl.SSLContext:
    """How a broker with these files shows itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.broker, files.broker_key)
    if mutual:
        context.load_verify_locations(files.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if not newest:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def shake_hands(tls: Tls, server: ssl.SSLContext, host: str = "localhost") -> Shaken:
    """Let both talk until both are content and a byte has gone each way.

    Raises:
        KitError: The client refuses.
        ssl.SSLError: The server refuses.
    """
    client = tls.client(host)
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = server.wrap_bio(arriving, leaving, server_side=True)
    done = False
    client.begin()
    for _ in range(10):
        arriving.write(client.leaving())
        if not done:
            try:
                peer.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
        if data := leaving.read():
            client.receive(data)
        if done and client.is_open:
            break
    _exchange(client, peer, arriving, leaving)
    return Shaken(peer.version(), peer.getpeercert())


def _exchange(
    client: TlsClient, peer: ssl.SSLObject, arriving: ssl.MemoryBIO, leaving: ssl.MemoryBIO
) -> None:
    client.send(b"ping")
    arriving.write(client.leaving())
    assert peer.read(10) == b"ping"
    peer.write(b"pong")
    client.receive(leaving.read())
    assert bytes(client.received) == b"pong"
