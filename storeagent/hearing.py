"""What arrives on the link, made into HQ's words or refused: the signature first, then the rest.

Owns which of HQ's keys are trusted at the moment, and in which words a refusal is counted. Must not
know the database, the machine or the link: whoever reads saves what follows from it.

Invariants:
- Nothing of a message is believed before its signature, for the topic that it came on, is one of a
  trusted key. The one thing that is looked at earlier is the chain of keys in the answer to this
  device's own latest hello, and each entry of that bears a signature of its own.
- Trust changes only with such an answer. Other keys may be HQ's new ones: only HQ can say, so a
  hello is due.
- Whatever a stranger sends, the words of the refusals and of their sources are few.
"""

from collections.abc import Container
from typing import NamedTuple

from buswire import frame
from buswire.errors import WireError
from buswire.messages import (
    Ack,
    AnyMessage,
    Heads,
    Hub,
    Nudge,
    Records,
    Snapshot,
    UnknownKindError,
    Welcome,
)
from buswire.signing import ForgeryError, UnknownKeyError
from buswire.topics import Address, Identity, Topics
from buswire.trust import CHAIN_LIMIT, KeyEntry, Trust, Trusted
from storeagent.errors import AgentError

ELSEWHERE = "a topic that was not asked for"
UNKNOWN_KEY = "a message signed with a key that is not trusted here"

_SPOKEN_TO_ONE = (Welcome, Ack, Records, Snapshot, Nudge)
_DETAIL_CHARACTERS = 500


class Refused(AgentError):  # noqa: N818 - it says what became of the message
    """What arrived is not taken; nothing of it may be saved but that.

    Attributes:
        what: In one of a few words.
        source: Where it came from, in one of a few words.
        detail: What people may want to see of it.
        key_id: The key that it names, where that one is not trusted; empty otherwise.
        leads_on: Keys of HQ's that were learned all the same, and that lead on to others.
    """

    def __init__(
        self,
        what: str,
        *,
        source: str,
        detail: str,
        key_id: str = "",
        leads_on: Trusted | None = None,
    ) -> None:
        """Say what was refused."""
        super().__init__(what)
        self.what = what
        self.source = source
        self.detail = detail[:_DETAIL_CHARACTERS]
        self.key_id = key_id
        self.leads_on = leads_on


class Word(NamedTuple):
    """A message of HQ's, and what to trust from here on where that is not what it was."""

    message: AnyMessage
    trust: Trusted | None


class Hearing:
    """Tells HQ's words from everything else, for one device."""

    def __init__(self, identity: Identity, topics: Topics, trust: Trusted) -> None:
        """Begin with these keys.

        Raises:
            WireError: One of them is none.
        """
        self._identity = identity
        self._topics = topics
        self._to_topic = topics.to(identity)
        self._trust = Trust(trust)

    @property
    def trusted(self) -> Trusted:
        """The keys that are trusted."""
        return self._trust.kept

    @property
    def newest(self) -> str:
        """The id of the newest of them; empty without any."""
        return self._trust.newest

    def trusts(self, key_id: str) -> bool:
        """Whether this key is one of them."""
        return self._trust.key_of(key_id) is not None

    def trust(self, trusted: Trusted) -> None:
        """Go on with these keys: what a `Word` brought and was saved, or what is saved.

        Raises:
            WireError: One of them is none.
        """
        self._trust = Trust(trusted)

    def read(
        self, topic: str, payload: bytes, *, nonce: str | None, filters: Container[str]
    ) -> Word | None:
        """Make a message out of what arrived; None where there is nothing to it.

        Args:
            topic: The topic name that it came on.
            payload: Its bytes.
            nonce: Of the latest hello, as long as its answer counts.
            filters: What was subscribed to; only for the words of a refusal.

        Raises:
            Refused: It is not a word of HQ's to this device, or one that cannot be used.
        """
        source = topic if topic in filters else ELSEWHERE
        shown = payload[:300].decode("utf-8", "replace")
        if source is ELSEWHERE:
            shown = f"{topic[:150]}: {shown}"
        try:
            address = self._address(topic)
        except WireError as error:
            raise Refused(
                "a message on a topic that is none of this device's", source=source, detail=shown
            ) from error
        if address.kind == "hq" and not payload:
            return None  # a retained message was cleared
        trust = self._trust
        try:
            envelope = frame.take_apart(payload)
            try:
                frame.verify(envelope, topic, trust.key_of)
            except UnknownKeyError:
                trust = self._follow(envelope, topic, nonce)
                frame.verify(envelope, topic, trust.key_of)
        except UnknownKeyError as error:
            leads_on = trust.kept if trust is not self._trust else None
            raise Refused(
                UNKNOWN_KEY,
                source=source,
                detail=f"the key {error.key_id}; {shown}",
                key_id=error.key_id,
                leads_on=leads_on,
            ) from error
        except ForgeryError as error:
            what = "a message without a signature that fits"
            raise Refused(what, source=source, detail=f"{error}; {shown}") from error
        except WireError as error:
            what = "what is no message of this version"
            raise Refused(what, source=source, detail=f"{error}; {shown}") from error
        try:
            message = _fitting(frame.decode_text(envelope.text), address)
        except UnknownKindError as error:
            raise Refused(str(error)[:200], source=source, detail=shown) from error
        except WireError as error:
            what = "a message of head office that does not fit the contract"
            raise Refused(what, source=source, detail=f"{error}; {shown}") from error
        if isinstance(message, Welcome) and nonce is not None and message.nonce == nonce:
            trust = _followed(trust, message.keys)
        return Word(message, None if trust is self._trust else trust.kept)

    def _address(self, topic: str) -> Address:
        address = self._topics.parse(topic)
        if address.kind == "to" and address.identity != self._identity:
            raise WireError("the topic of another device")
        return address

    def _follow(self, envelope: frame.Envelope, topic: str, nonce: str | None) -> Trust:
        """What the chain in a message of an unknown key leads to, if it may be looked at.

        Returns:
            A trust with which the message can be verified; or one that goes on towards it, where
            the chain is too long for one message; or the present one.
        """
        if topic != self._to_topic or nonce is None or nonce.encode() not in envelope.text:
            return self._trust
        try:
            message = frame.decode_text(envelope.text)
        except WireError:
            return self._trust
        if not isinstance(message, Welcome) or message.nonce != nonce:
            return self._trust
        trust = _followed(self._trust, message.keys)
        leads_there = trust.key_of(envelope.key_id) is not None
        return trust if leads_there or len(message.keys) >= CHAIN_LIMIT else self._trust


def further(pinned: Trusted, learned: Trusted | None) -> Trusted:
    """What to begin with: the keys of the joining, or those that HQ has announced since then.

    What was learned under another recovery key is of another joining, and void.
    """
    if learned is None or learned.recovery != pinned.recovery:
        return pinned
    return max(pinned, learned, key=lambda trusted: (trusted.epoch, trusted.number))


def _followed(trust: Trust, entries: list[KeyEntry]) -> Trust:
    followed = trust.follow(entries[:CHAIN_LIMIT]).trust
    return trust if followed.kept == trust.kept else followed


def _fitting(message: AnyMessage, address: Address) -> AnyMessage:
    """Return the message, if it is one that HQ may say on this topic.

    Raises:
        WireError: It is not.
    """
    match address.kind:
        case "down":
            fits = isinstance(message, Records) and message.log == str(address.channel)
        case "heads":
            fits = isinstance(message, Heads)
        case "to":
            fits = isinstance(message, _SPOKEN_TO_ONE)
        case "hq":
            fits = isinstance(message, Hub)
        case _:
            fits = False
    if not fits:
        raise WireError(f"a {type(message).__name__} on a topic where it does not belong")
    return message
