"""As much of MQTT 3.1.1 as somebody in the middle needs: cutting a stream into packets, PUBLISH."""

from typing import NamedTuple

PUBLISH = 3
_LENGTH_BYTES_MOST = 4


class Published(NamedTuple):
    """An application message as it passed."""

    topic: str
    payload: bytes


class Cutter:
    """Cuts one direction of a connection into whole packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def cut(self, data: bytes) -> list[bytes]:
        """The packets that this completes."""
        self._buffer += data
        packets = []
        while (end := _end(self._buffer)) and end <= len(self._buffer):
            packets.append(bytes(self._buffer[:end]))
            del self._buffer[:end]
        return packets


def _end(data: bytearray) -> int:
    """Where the first packet ends; 0 where that is not known yet."""
    length = shift = 0
    for at in range(1, min(len(data), 1 + _LENGTH_BYTES_MOST)):
        length |= (data[at] & 0x7F) << shift
        shift += 7
        if data[at] < 0x80:
            return at + 1 + length
    return 0


def published(packet: bytes) -> Published | None:
    """What a packet publishes; None for any other packet."""
    if packet[0] >> 4 != PUBLISH:
        return None
    at = 1
    while packet[at] >= 0x80:
        at += 1
    at += 1
    topic_bytes = int.from_bytes(packet[at : at + 2], "big")
    at += 2
    topic = packet[at : at + topic_bytes].decode()
    at += topic_bytes
    if packet[0] & 0x06:
        at += 2  # the packet identifier
    return Published(topic, packet[at:])


def publish(topic: str, payload: bytes) -> bytes:
    """A PUBLISH packet at QoS 0."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + payload
    length = bytearray()
    left = len(body)
    while True:
        left, low = divmod(left, 128)
        length.append(low | (0x80 if left else 0))
        if not left:
            return bytes([PUBLISH << 4, *length]) + body
