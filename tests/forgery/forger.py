"""Forgeries of one genuine message: altered, moved to other topics, or signed by others.

Pure but for the keys that it signs with: it has every private key of the chain except, each time,
those that may speak where the forgery goes. What it makes is never what somebody really said there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import msgspec

from buswire import frame
from buswire.messages import Join, Welcome
from buswire.signing import SigningKey, message_bytes, parse_signature, proof_bytes, signature_text
from buswire.topics import Identity
from buswire.trust import KeyEntry, announce
from tests.forgery.bus import Bus, Delivery, key
from tests.forgery.story import GONE, RENEWED

# The order of the group of Ed25519: a signature with this added to its second half would fit again.
_ORDER = 2**252 + 27742317777372353535851937790883648493


@dataclass(frozen=True)
class Forgery:
    """A message that nobody said there.

    Attributes:
        what: How it was made.
        delivery: To whom it is handed.
        unknown_key: Whether it names a key that the receiver does not know: a device may ask HQ
            whether its keys have changed.
    """

    what: str
    delivery: Delivery
    unknown_key: bool = False


class Forger:
    """Makes forgeries of whatever is about to be delivered on a bus."""

    def __init__(
        self, random: Random, bus: Bus, other: list[Delivery], past: list[Delivery]
    ) -> None:
        """Take what else there is to use.

        Args:
            random: Which bytes are changed.
            bus: The chain that is attacked.
            other: What was said on another chain with the same root, stores and devices.
            past: What a device said before it was revoked.
        """
        self._random = random
        self._bus = bus
        self._past = past
        self._stranger = key("a stranger")
        self._other: dict[str, list[Delivery]] = {}
        for delivery in other:
            self._other.setdefault(delivery.kind, []).append(delivery)
        self._said: list[Delivery] = []
        self._seen: dict[str, list[bytes]] = {}
        self.genuine: set[tuple[str, bytes]] = set()

    def remember(self, delivery: Delivery) -> None:
        """Take note of what was really said."""
        self._said.append(delivery)
        self.genuine.add((delivery.topic, delivery.payload))

    def forgeries(self, genuine: Delivery) -> Iterator[Forgery]:
        """All forgeries of this message."""
        self.genuine.add((genuine.topic, genuine.payload))
        makers = (
            self._headers,
            self._bytes,
            self._fields,
            self._spellings,
            self._signers,
            self._topics,
            self._swaps,
            self._others,
            self._chains,
            self._proofs,
        )
        for maker in makers:
            for forgery in maker(genuine):
                made = forgery.delivery
                if (made.topic, made.payload) not in self.genuine:
                    yield forgery

    # -- the bytes of it --

    def _altered(self, genuine: Delivery, what: str, payload: bytes) -> Forgery:
        return Forgery(what, replace(genuine, payload=payload), unknown_key=True)

    def _headers(self, genuine: Delivery) -> Iterator[Forgery]:
        version, key_id, rest = genuine.payload.split(b" ", 2)
        signature, text = rest.split(b"\n", 1)
        raw = parse_signature(signature.decode())
        second = int.from_bytes(raw[32:], "little") + _ORDER
        for what, header in {
            "no header": b"",
            "no signature": b"%b %b" % (version, key_id),
            "an empty signature": b"%b %b " % (version, key_id),
            "nothing but the version": version,
            "another version": b"storebus/2 %b %b" % (key_id, signature),
            "a version spelt otherwise": b"storebus/01 %b %b" % (key_id, signature),
            "capitals in the key id": b"%b %b %b" % (version, key_id.upper(), signature),
            "a padded signature": b"%b %b %b==" % (version, key_id, signature),
            "a signature cut short": b"%b %b %b" % (version, key_id, signature[:-1]),
            "a signature of zeros": b"%b %b %b" % (version, key_id, b"A" * 86),
            "a signature spelt otherwise": b"%b %b %b"
            % (version, key_id, signature[:-1] + bytes([signature[-1] + 1])),
            "a signature with the order added": b"%b %b %b"
            % (version, key_id, signature_text(raw[:32] + second.to_bytes(32, "little")).encode()),
            "the halves of the signature swapped": b"%b %b %b"
            % (version, key_id, signature_text(raw[32:] + raw[:32]).encode()),
            "a third word": b"%b %b %b x" % (version, key_id, signature),
            "two blanks": b"%b  %b %b" % (version, key_id, signature),
            "a carriage return": b"%b %b %b\r" % (version, key_id, signature),
            "another key id": b"%b %b %b" % (version, key_id[::-1], signature),
        }.items():
            if header + b"\n" + text != genuine.payload:
                yield self._altered(genuine, what, header + b"\n" + text)

    def _bytes(self, genuine: Delivery) -> Iterator[Forgery]:
        payload, random = genuine.payload, self._random
        text_at = payload.index(b"\n") + 1
        yield self._altered(genuine, "nothing at all", b"")
        yield self._altered(genuine, "a byte more", payload + b" ")
        yield self._altered(genuine, "the text twice", payload + payload[text_at:])
        yield self._altered(genuine, "the message twice", payload + b"\n" + payload)
        for _ in range(3):
            yield self._altered(genuine, "cut", payload[: random.randrange(len(payload))])
        for begin, end, count in ((0, text_at, 8), (text_at, len(payload), 14)):
            for _ in range(count):
                at = random.randrange(begin, end)
                changed = bytearray(payload)
                changed[at] ^= 1 << random.randrange(8)
                yield self._altered(genuine, f"a bit of byte {at}", bytes(changed))

    def _with_text(self, genuine: Delivery, what: str, fields: dict[str, Any]) -> Forgery:
        header, _, _ = genuine.payload.partition(b"\n")
        payload = header + b"\n" + msgspec.json.encode(fields)
        return Forgery(what, replace(genuine, payload=payload))

    def _fields(self, genuine: Delivery) -> Iterator[Forgery]:
        """Each field changed to something that would fit, under the signature as it is."""
        text = frame.take_apart(genuine.payload).text
        fields: dict[str, Any] = msgspec.json.decode(text)
        for name, value in fields.items():
            rest = {other: field for other, field in fields.items() if other != name}
            if name != "kind":
                yield self._with_text(genuine, f"without {name}", rest)
            for other in self._instead(name, value):
                yield self._with_text(genuine, f"another {name}", {**fields, name: other})
        yield self._with_text(genuine, "a field more", {**fields, "extra": 1})

    def _instead(self, name: str, value: Any) -> list[Any]:
        """Values that could stand there: changed ones, and what stood there in other messages."""
        seen = self._seen.setdefault(name, [])
        others = [msgspec.json.decode(one) for one in self._random.sample(seen, min(2, len(seen)))]
        encoded = msgspec.json.encode(value)
        if encoded not in seen:
            seen.append(encoded)
        match value:
            case bool():
                changed: list[Any] = [not value]
            case int() | float():
                changed = [value + 1, 0]
            case str():
                changed = [value[:-1] + ("0" if value[-1:] != "0" else "1"), ""]
            case [int() as number, str() as name_of_it]:
                changed = [[number + 1, name_of_it], [0, ""], [max(0, number - 1), name_of_it]]
            case list():
                changed = [[], value[:-1], value[::-1], value + value]
            case dict():
                changed = [{}, dict(list(value.items())[:-1])]
            case _:
                changed = [None]
        return [one for one in (*changed, *others) if one != value]

    def _spellings(self, genuine: Delivery) -> Iterator[Forgery]:
        """The same JSON in other bytes."""
        header, _, text = genuine.payload.partition(b"\n")
        fields = msgspec.json.decode(text)
        turned = dict(reversed(list(fields.items())))
        for what, other in {
            "spaces": msgspec.json.format(text, indent=1),
            "fields in another order": msgspec.json.encode(turned),
            "a letter as an escape": text.replace(b'"kind"', b'"\\u006bind"'),
            "a field twice": b'{"kind":"' + fields["kind"].encode() + b'",' + text[1:],
        }.items():
            if other != text:
                yield Forgery(what, replace(genuine, payload=header + b"\n" + other))

    # -- who signs --

    def _wrong_keys(self, genuine: Delivery) -> Iterator[tuple[str, SigningKey]]:
        """Every key that may not speak to whom this is for, on this topic."""
        bus = self._bus
        yield "a stranger", self._stranger
        yield "the recovery key", bus.keys.recovery
        yield "a revoked device", key(f"{bus.name} {GONE}")
        yield "a key of before", key(f"{bus.name} {RENEWED}, the key of before")
        yield "a bundle", key("invite S1.joins")
        for name, till in bus.tills.items():
            yield f"the device {name}", till.key
            yield f"the device {name} of another chain", key(f"theirs {name}")
        receiver = bus.tills.get(genuine.to)
        newest = receiver.core._hearing.newest if receiver is not None else ""
        for number, hq_key in enumerate(bus.keys.all):
            if genuine.to == "hq":
                yield f"HQ's key {number}", hq_key
            elif receiver is not None and hq_key.id == newest:
                break  # this one and those that come are, or will be, HQ's for this device
            elif receiver is not None and not receiver.core._hearing.trusts(hq_key.id):
                yield f"HQ's key {number}, which is over", hq_key

    def _signers(self, genuine: Delivery) -> Iterator[Forgery]:
        envelope = frame.take_apart(genuine.payload)
        for who, wrong in self._wrong_keys(genuine):
            if wrong.id != envelope.key_id:
                payload = _signed(envelope.text, genuine.topic, wrong)
                delivery = replace(genuine, payload=payload)
                yield Forgery(f"signed by {who}", delivery, unknown_key=True)
                header = b"storebus/1 %b" % envelope.key_id.encode()
                signature = payload.partition(b"\n")[0].split(b" ")[2]
                claimed = b"%b %b\n%b" % (header, signature, envelope.text)
                yield Forgery(
                    f"signed by {who} in the other's name", replace(genuine, payload=claimed)
                )

    def _topics(self, genuine: Delivery) -> Iterator[Forgery]:
        """The very message on topics that it was not signed for."""
        bus = self._bus
        topics = bus.topics
        identities = [till.identity for till in bus.tills.values()]
        if genuine.to == "hq":
            names = [topics.from_(one) for one in (*identities, Identity.parse(GONE))]
            names += [topics.from_(Identity("S1", "never")), *map(topics.join, bus.joining)]
            names += [topics.to(identities[0]), topics.hq, f"other/v1/{genuine.topic}"]
            for topic in names:
                if topic != genuine.topic:
                    yield Forgery(f"on {topic}", replace(genuine, topic=topic))
            return
        for name, till in bus.tills.items():
            elsewhere = [*till.filters, topics.to(till.identity), topics.from_(till.identity)]
            for topic in self._random.sample(elsewhere, min(4, len(elsewhere))):
                if topic != genuine.topic:
                    moved = replace(genuine, to=name, topic=topic)
                    yield Forgery(f"to {name} on {topic}", moved, unknown_key=True)
        for bundle, joining in bus.joining.items():
            if genuine.topic != joining.topic:
                yield Forgery("to who joins", replace(genuine, to=bundle, topic=joining.topic))

    def _swaps(self, genuine: Delivery) -> Iterator[Forgery]:
        """Header of one, text of another, both really said."""
        like = [one for one in self._said if one.topic == genuine.topic]
        header, _, text = genuine.payload.partition(b"\n")
        for other in self._random.sample(like, min(3, len(like))):
            other_header, _, other_text = other.payload.partition(b"\n")
            for what, payload in (
                ("the signature of another", other_header + b"\n" + text),
                ("the text of another", header + b"\n" + other_text),
            ):
                yield Forgery(what, replace(genuine, payload=payload), unknown_key=True)

    def _others(self, genuine: Delivery) -> Iterator[Forgery]:
        """What was really said elsewhere or in another time, here and now."""
        theirs = self._other.get(genuine.kind, [])
        for other in self._random.sample(theirs, min(3, len(theirs))):
            moved = replace(genuine, payload=other.payload)
            yield Forgery("said on another chain", moved, unknown_key=True)
        elsewhere = [one for one in self._said if one.topic != genuine.topic]
        for other in self._random.sample(elsewhere, min(3, len(elsewhere))):
            moved = replace(genuine, payload=other.payload)
            yield Forgery(f"said on {other.topic}", moved, unknown_key=True)
        if genuine.to != "hq":
            return
        yield Forgery("said before it was revoked", self._random.choice(self._past))
        text = frame.take_apart(genuine.payload).text
        for what, name, signing in (
            ("by a revoked device", GONE, key(f"{self._bus.name} {GONE}")),
            (
                "by the key of before",
                RENEWED,
                key(f"{self._bus.name} {RENEWED}, the key of before"),
            ),
            ("by somebody who was never added", "S9.till", self._stranger),
        ):
            topic = self._bus.topics.from_(Identity.parse(name))
            yield Forgery(what, Delivery("hq", topic, _signed(text, topic, signing)))

    # -- chains of keys and proofs --

    def _chains(self, genuine: Delivery) -> Iterator[Forgery]:
        """A welcome to the right nonce, signed by a key to which only a forged chain leads."""
        message = genuine.message
        if not isinstance(message, Welcome):
            return
        keys, mine = self._bus.keys, self._stranger
        last = keys.entries[-1]
        real, next_number = list(keys.entries), last.number + 1
        by_itself = announce(mine.public, epoch=last.epoch, number=next_number, by=mine)
        claimed = KeyEntry(
            epoch=last.epoch,
            number=next_number,
            key=mine.public.text,
            by=keys.all[-1].id,
            signature=by_itself.signature,
        )
        device = self._bus.tills[genuine.to].key

        def entry(epoch: int, number: int, by: SigningKey) -> list[KeyEntry]:
            return [*real, announce(mine.public, epoch=epoch, number=number, by=by)]

        chains = {
            "announced by itself": entry(last.epoch, next_number, mine),
            "announced in HQ's name": [*real, claimed],
            "announced by the device": entry(last.epoch, next_number, device),
            "recovered by itself": entry(last.epoch + 1, 1, mine),
            "recovered by HQ's signing key": entry(last.epoch + 1, 1, keys.all[-1]),
            "recovered by another chain": entry(last.epoch + 1, 1, key("theirs 0")),
            "in place of HQ's key": [
                msgspec.structs.replace(one, key=mine.public.text) for one in real
            ],
        }
        if keys.stolen:
            chains["announced by a stolen key"] = entry(last.epoch, next_number, keys.all[0])
        for what, entries in chains.items():
            forged = msgspec.structs.replace(message, keys=entries)
            payload = frame.encode(forged, genuine.topic, mine)
            yield Forgery(f"a chain {what}", replace(genuine, payload=payload), unknown_key=True)

    def _proofs(self, genuine: Delivery) -> Iterator[Forgery]:
        """A request for another key by who has the bundle's invite but not that key."""
        message = genuine.message
        if not isinstance(message, Join):
            return
        bundle = genuine.topic.rpartition("/")[2]
        theirs = self._stranger.public.text
        proof = signature_text(self._stranger.sign(proof_bytes(bundle, "0" * 64)))
        other = signature_text(self._stranger.sign(proof_bytes("0" * 16, message.token_hash)))
        for what, changes in {
            "for a key that the asker has not": {"device_key": theirs},
            "for another token": {"token_hash": "0" * 64},
            "with a proof for another token": {"device_key": theirs, "proof": proof},
            "with a proof for another bundle": {"device_key": theirs, "proof": other},
        }.items():
            forged = msgspec.structs.replace(message, **changes)
            payload = frame.encode(forged, genuine.topic, key("invite S1.joins"))
            yield Forgery(f"a request {what}", replace(genuine, payload=payload))


def _signed(text: bytes, topic: str, by: SigningKey) -> bytes:
    """Lay a text in a payload for this topic as `by` would."""
    signature = signature_text(by.sign(message_bytes(topic, text)))
    return b"storebus/1 %b %b\n%b" % (by.id.encode(), signature.encode(), text)
