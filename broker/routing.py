"""Where messages go: the sessions, their subscriptions, the retained messages and the wills.

Owns the state of the broker, and asks the access policy. No I/O and nothing asynchronous: a call
here is finished when it returns, so a PUBLISH is acknowledged after it was routed, and no client's
coming or going can disturb a fan-out half-way. Time comes in as an argument.
"""

import logging
from collections.abc import Callable

from broker import packets
from broker.access import AccessPolicy, Action, Identity, Kind
from broker.errors import CloseReason, ProtocolError
from broker.limits import Limits
from broker.metering import Waiting
from broker.notices import Notices
from broker.packets import Connect, Message
from broker.retained import RetainedMessages
from broker.session import Outlet, Session
from broker.topics import SubscriptionTree, is_topic_filter, is_topic_name
from buswire.names import shown

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """A CONNECT that was understood and is refused.

    Attributes:
        code: The return code for CONNACK.
    """

    def __init__(self, code: int, detail: str) -> None:
        """Take the code and the words for the log."""
        super().__init__(detail)
        self.code = code


class Router:
    """The broker's state and its rules; one for each broker, used from its event loop alone.

    Attributes:
        sessions: By client id; those with clean_session=False outlive their connections.
        subscriptions: Of all sessions.
        retained: Of all topics.
    """

    def __init__(
        self, limits: Limits, policy: AccessPolicy, waiting: Waiting, clock: Callable[[], float]
    ) -> None:
        """Start empty.

        Args:
            limits: What may be kept.
            policy: What clients may do.
            waiting: Where the bytes are counted that wait for all sessions together.
            clock: Monotonic seconds, for the pace of warnings alone.
        """
        self.sessions: dict[str, Session] = {}
        self.subscriptions: SubscriptionTree[Session] = SubscriptionTree()
        self.retained = RetainedMessages(
            max_messages=limits.retained_messages, max_bytes=limits.retained_bytes
        )
        self._limits = limits
        self._policy = policy
        self._checks_delivery = policy.checks_delivery
        self._waiting = waiting
        self._clock = clock
        self._notices = Notices(log)
        self._kept_sessions = 0
        self._retained_full = False
        # Since when a hub is crowded; None when it was not when last looked at.
        self._hubs: dict[Session, float | None] = {}

    # -- connections --

    def open(
        self, connect: Connect, client_id: str, identity: Identity, *, now: float
    ) -> tuple[Session, bool]:
        """Make or find the session of a client that is authenticated.

        A connection that has the session now is ended, its will published. Attach the new one
        with `Session.resume` after CONNACK.

        Returns:
            The session, and whether it was there before (session present).

        Raises:
            RefusedError: When the will is not allowed or there are too many sessions to keep.
        """
        will = connect.will
        if will is not None:
            if not is_topic_name(will.topic, max_levels=self._limits.topic_levels):
                raise ProtocolError("a will whose topic cannot be published to [4.7.3]")
            if not self._allows_will(identity, will):
                raise RefusedError(packets.NOT_AUTHORIZED, "its will is not allowed")
        session = self.sessions.get(client_id)
        keep = not connect.clean_session
        reusable = session is not None and not session.clean and session.identity == identity
        if keep and not reusable and self._kept_sessions >= self._limits.kept_sessions:
            raise RefusedError(
                packets.SERVER_UNAVAILABLE, f"{self._kept_sessions} sessions are kept already"
            )
        if session is not None and session.outlet is not None:
            session.outlet.end(CloseReason.TAKEN_OVER)
            self.detach(session, session.outlet, publish_will=True, now=now)
            # A clean session ended with its connection.
            session = self.sessions.get(client_id)
        if session is not None and not (keep and reusable):
            self._forget(session)
            session = None
        present = session is not None
        if session is None:
            session = Session(
                client_id,
                identity,
                self._limits,
                clean=connect.clean_session,
                receives=self._may_receive,
                waiting=self._waiting,
            )
            self.sessions[client_id] = session
            self._kept_sessions += keep
            if identity.kind is Kind.HUB:
                self._hubs[session] = None
        session.identity = identity  # the same one, with another token maybe
        session.will = will
        return session, present

    def detach(self, session: Session, outlet: Outlet, *, publish_will: bool, now: float) -> None:
        """Take note that a connection ended. Idempotent, and void once another has taken over."""
        if session.outlet is not outlet:
            return
        session.outlet = None
        session.away_since = now
        will, session.will = session.will, None
        if session.clean:
            self._forget(session)
        # Asked again: who was thrown out since has no last word.
        if will is not None and publish_will and self._allows_will(session.identity, will):
            self.publish(will)

    def expire(self, now: float) -> int:
        """Forget the sessions whose clients have been away for too long; return how many."""
        oldest = now - self._limits.kept_session_seconds
        expired = [s for s in self.sessions.values() if s.outlet is None and s.away_since < oldest]
        for session in expired:
            log.info(
                "the session of client %r has expired, with %d messages waiting",
                session.client_id,
                session.waiting_messages,
            )
            self._forget(session)
        return len(expired)

    def crowd_out(self, session: Session, *, now: float) -> None:
        """End a session, to make room, whether its client is here or not. Idempotent."""
        if session.outlet is not None:
            self.detach(session, session.outlet, publish_will=True, now=now)
        if self.sessions.get(session.client_id) is session:
            log.warning(
                "the session of client %r is forgotten: %s",
                session.client_id,
                CloseReason.MEMORY.value,
            )
            self._forget(session)

    def is_hub_crowded(self, now: float) -> bool:
        """Say whether devices have to wait for a hub; one that takes nothing is cut off."""
        is_crowded = False
        for hub, since in self._hubs.items():
            if not hub.is_crowded:
                self._hubs[hub] = None
            elif since is None:
                self._hubs[hub] = now
                is_crowded = True
            elif now - since <= self._limits.crowded_hub_seconds:
                is_crowded = True
            elif hub.outlet is not None:
                hub.outlet.end(CloseReason.TOO_SLOW, f"for {now - since:.0f} s devices had to wait")
        return is_crowded

    def _forget(self, session: Session) -> None:
        session.clear()
        self._hubs.pop(session, None)
        for topic_filter in session.filters:
            self.subscriptions.remove(topic_filter, session)
        session.filters.clear()
        session.filters_bytes = 0
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
            self._kept_sessions -= not session.clean

    # -- access --

    def change_policy(self, policy: AccessPolicy) -> list[Session]:
        """Judge by this policy from now on; return the sessions, for `recheck` or `revoke`.

        Publishing and delivery are asked about each time, so nothing passes meanwhile.
        """
        self._policy = policy
        self._checks_delivery = policy.checks_delivery
        return list(self.sessions.values())

    def recheck(self, session: Session) -> None:
        """End the subscriptions of a session that are not allowed any more. Idempotent."""
        if self.sessions.get(session.client_id) is not session:
            return
        for topic_filter in tuple(session.filters):
            if not self._allows(session.identity, Action.SUBSCRIBE, topic_filter):
                log.info(
                    "client %r may not subscribe to %s any more",
                    session.client_id,
                    shown(topic_filter, 200),
                )
                self.unsubscribe(session, topic_filter)

    def revoke(self, session: Session, *, now: float) -> None:
        """Throw a client out and forget its session, kept or not. Idempotent."""
        if session.outlet is not None:
            session.outlet.end(CloseReason.REVOKED)
            self.detach(session, session.outlet, publish_will=True, now=now)
        if self.sessions.get(session.client_id) is session:
            log.info("the session of client %r is revoked", session.client_id)
            self._forget(session)

    # -- messages --

    def publish_from(self, session: Session, message: Message) -> int:
        """Route a client's message, if the client may publish it; return the number of deliveries.

        What is not allowed goes nowhere and is acknowledged all the same: MQTT 3.1.1 knows no
        refusal [3.3.5-2].

        Raises:
            ProtocolError: For a topic that cannot be published to.
        """
        topic = message.topic
        if not is_topic_name(topic, max_levels=self._limits.topic_levels):
            raise ProtocolError("a PUBLISH to what is no topic name [3.3.2-2, 4.7.3-1]")
        if not self._allows(session.identity, Action.PUBLISH, topic) or (
            message.retain and not self._allows(session.identity, Action.RETAIN, topic)
        ):
            self._warn("client %r may not publish to %s", session, topic)
            return 0
        return self.publish(message)

    def publish(self, message: Message) -> int:
        """Deliver a message to whoever subscribes to its topic; return to how many that is."""
        if message.retain:
            self.retain(message)
        targets = self.subscriptions.match(message.topic)
        published_qos = message.qos
        for session, granted_qos in targets.items():
            if self._checks_delivery and not self._allows(
                session.identity, Action.RECEIVE, message.topic
            ):
                continue
            # Not min(), which costs as much as the rest of this loop together.
            qos = granted_qos if granted_qos < published_qos else published_qos  # noqa: FURB136
            session.deliver(message, qos)
        return len(targets)

    def retain(self, message: Message) -> None:
        """Keep the message as the last of its topic, within the limits."""
        if self.retained.set(message):
            self._retained_full = False
        elif not self._retained_full:
            self._retained_full = True
            log.warning(
                "no room to retain another message (%d are): %r is delivered but not retained",
                len(self.retained),
                message.topic,
            )

    # -- subscriptions --

    def subscribe(self, session: Session, topic_filter: str, qos: int) -> int:
        """Add or change a subscription; return the code for SUBACK.

        Send `retained_for` after SUBACK.

        Raises:
            ProtocolError: For what is no topic filter.
        """
        if not is_topic_filter(topic_filter, max_levels=self._limits.topic_levels):
            raise ProtocolError("a SUBSCRIBE to what is no topic filter [4.7.1, 4.7.3-1]")
        if not self._allows(session.identity, Action.SUBSCRIBE, topic_filter):
            self._warn("client %r may not subscribe to %s", session, topic_filter)
            return packets.SUBSCRIBE_FAILED
        if topic_filter not in session.filters:
            limits = self._limits
            size = len(topic_filter)
            if (
                len(session.filters) >= limits.filters_per_client
                or session.filters_bytes + size > limits.filters_bytes_per_client
            ):
                self._warn("client %r has too many subscriptions for %s", session, topic_filter)
                return packets.SUBSCRIBE_FAILED
            session.filters_bytes += size
        session.filters[topic_filter] = qos
        self.subscriptions.add(topic_filter, session, qos)
        return qos

    def retained_for(self, session: Session, topic_filter: str) -> list[Message]:
        """List the retained messages that a new subscription is to be sent [3.3.1-6]."""
        found = self.retained.match(topic_filter)
        if self._checks_delivery:
            found = [m for m in found if self._allows(session.identity, Action.RECEIVE, m.topic)]
        return found

    def unsubscribe(self, session: Session, topic_filter: str) -> None:
        """End a subscription; nothing happens when there is none.

        Raises:
            ProtocolError: For what is no topic filter.
        """
        if not is_topic_filter(topic_filter, max_levels=self._limits.topic_levels):
            raise ProtocolError("an UNSUBSCRIBE from what is no topic filter [4.7.1, 4.7.3-1]")
        if session.filters.pop(topic_filter, None) is not None:
            session.filters_bytes -= len(topic_filter)
            self.subscriptions.remove(topic_filter, session)

    def _warn(self, message: str, session: Session, topic: str) -> None:
        self._notices.tell(message, self._clock(), message, session.client_id, shown(topic, 200))

    def _allows_will(self, identity: Identity, will: Message) -> bool:
        return self._allows(identity, Action.WILL, will.topic) and (
            not will.retain or self._allows(identity, Action.RETAIN, will.topic)
        )

    def _may_receive(self, identity: Identity, topic: str) -> bool:
        return not self._checks_delivery or self._allows(identity, Action.RECEIVE, topic)

    def _allows(self, identity: Identity, action: Action, topic: str) -> bool:
        try:
            return self._policy.allows(identity, action, topic)
        except Exception:  # a policy's defect must close the door, not the broker
            log.exception("the access policy failed on %s %r", action.value, topic)
            return False
