"""Joining at HQ: one use of a bundle, by whoever asks first and proves its key."""

from pathlib import Path
from typing import Any

import pytest

from buswire import frame
from buswire.access import token_hash
from buswire.messages import Bye, Join, Joined, Welcome
from buswire.signing import SigningKey, fingerprint, proof_bytes, signature_text
from buswire.topics import Identity
from hqconsole.audience import Mailbox
from hqconsole.desk import Desk, Heard, Linked, Tick
from hqconsole.enrolling import IssueCertificate
from hqconsole.errors import HqError
from hqconsole.ledger import access, enrolment, store_views
from hqconsole.ledger.enrolment import EnrolmentError
from tests.hq_desk.office import AT, OTHER, SIBLING, TILL, TOPICS, Office, new_id, seed

DAY = 86_400.0
INVITE = SigningKey(seed("invite"))


class Joiner:
    """Who holds a bundle: a key of its own, and what it asks."""

    def __init__(self, office: Office, bundle: str, name: str, machine: str = "PC-1") -> None:
        self.office = office
        self.bundle = bundle
        self.key = SigningKey(seed(name))
        self.token_hash = token_hash(name)
        self.machine = machine

    def request(self, **fields: Any) -> Join:
        """What it asks."""
        values = {
            "nonce": new_id(),
            "device_key": self.key.public.text,
            "token_hash": self.token_hash,
            "proof": signature_text(self.key.sign(proof_bytes(self.bundle, self.token_hash))),
            "machine": self.machine,
        }
        return Join(**(values | fields))

    def ask(self, *, invite: SigningKey = INVITE, **fields: Any) -> Joined | None:
        """Ask once; what HQ says to it."""
        request = self.request(**fields)
        topic = TOPICS.join(self.bundle)
        payload = frame.encode(request, topic, invite)
        out = self.office.desk.handle([Heard(topic, payload)], self.office.now)
        answers = [self.office.read(one) for one in out if one.topic == topic]
        assert len(answers) <= 1
        if not answers:
            return None
        assert isinstance(answers[0], Joined)
        assert answers[0].nonce == request.nonce
        return answers[0]


def invite(
    office: Office, identity: Identity = SIBLING, *, days: float = 7, roles: Any = None
) -> str:
    """Make a bundle."""
    with office.ledger.write() as connection:
        return enrolment.invite(
            connection,
            identity,
            roles,
            at=office.at,
            by="Ana",
            expires_at=office.at + days * DAY,
            new_id=new_id,
            token_hash=token_hash("bundle"),
            invite_public=INVITE.public,
        )


def confirming(office: Office, certificate: IssueCertificate | None = None) -> None:
    """Start the hub again, with other settings."""
    office.desk = Desk(
        office.ledger,
        TOPICS,
        keyring=office.keys,
        draw=lambda: 0.5,
        new_id=new_id,
        wall_clock=lambda: office.at,
        certificate=certificate,
        confirm=certificate is None,
    )
    office.desk.handle([Linked()], office.now)


def state_of(office: Office, identity: Identity = SIBLING) -> str:
    """The state of a device."""
    ((state,),) = office.rows(
        "SELECT state FROM device JOIN store ON store.no = store_no"
        " WHERE store.id = ? AND device.name = ?",
        *identity,
    )
    return str(state)


def test_who_asks_with_the_bundle_becomes_the_device(office: Office) -> None:
    """Accepted, heard with the key that it drew, and HQ's signed word is kept as the proof."""
    joiner = Joiner(office, invite(office), "new")
    assert state_of(office) == "invited"
    before = access.version(office.ledger.connection)
    joined = joiner.ask()
    assert joined is not None
    assert (joined.verdict, joined.store, joined.device) == ("accepted", "S1", "till-2")
    assert joined.key == joiner.key.id
    assert state_of(office) == "active"
    assert access.version(office.ledger.connection) > before
    answers = office.hear(office.a_hello(), identity=SIBLING, key=joiner.key)
    assert isinstance(answers[0], Welcome)
    ((topic, text, key_id, signature),) = office.rows(
        "SELECT joined_topic, joined_text, joined_key, joined_signature FROM device_key"
        " WHERE key_id = ?",
        joiner.key.id,
    )
    envelope = frame.Envelope(key_id, signature, text)
    frame.verify(envelope, topic, office.keys.key_of)
    assert frame.decode_text(text) == joined


def test_a_bundle_from_before_a_rotation_still_lets_in(office: Office) -> None:
    """With the answer come the keys that lead from those of the bundle to the one that signed."""
    first = office.keys.signing(office.at).id
    joiner = Joiner(office, invite(office), "new")
    unchanged = joiner.ask(hq_key=first)
    assert unchanged is not None
    assert unchanged.keys == []
    office.keys.rotate()
    office.keys.recover(stolen=True)
    office.desk.take_keys(office.keys)
    joined = joiner.ask(hq_key=first)
    assert joined is not None
    assert joined.keys == list(office.keys.entries[1:])


def test_the_same_key_asking_again_is_answered_again(office: Office) -> None:
    """The first answer may have been lost: no second key, no incident, also after the expiry."""
    joiner = Joiner(office, invite(office, days=1), "new")
    first = joiner.ask()
    keys = office.rows("SELECT * FROM device_key")
    version = access.version(office.ledger.connection)
    office.at += 2 * DAY
    again = joiner.ask()
    assert first is not None
    assert again is not None
    assert again.verdict == first.verdict == "accepted"
    assert office.rows("SELECT * FROM device_key") == keys
    assert access.version(office.ledger.connection) == version
    assert office.incidents() == []


def test_a_second_use_is_refused_and_an_incident_that_names_both(office: Office) -> None:
    """Whoever comes later learns that somebody was first; operators learn of both machines."""
    bundle = invite(office)
    first = Joiner(office, bundle, "first", "PC-KASSE")
    second = Joiner(office, bundle, "second", "PC-ELSEWHERE")
    first.ask()
    for _ in range(5):
        refused = second.ask()
        assert refused is not None
        assert refused.verdict == "refused"
        assert "used before" in refused.reason
    assert office.incidents() == ["bundle used twice"]
    ((detail,),) = office.rows("SELECT detail FROM incident")
    for word in ("PC-KASSE", "PC-ELSEWHERE", first.key.id, second.key.id, bundle):
        assert word in detail
    answers = office.hear(office.a_hello(), identity=SIBLING, key=first.key)
    assert isinstance(answers[0], Welcome), "the first one is not disturbed"


@pytest.mark.parametrize(
    ("why", "word"), [("expired", "expired"), ("withdrawn", "withdrawn"), ("revoked", "withdrawn")]
)
def test_a_bundle_that_counts_no_more_is_refused(office: Office, why: str, word: str) -> None:
    """By HQ's clock alone, and in the words of the reason."""
    bundle = invite(office)
    if why == "expired":
        office.let_pass(7 * DAY)
    else:
        with office.ledger.write() as connection:
            if why == "withdrawn":
                assert enrolment.withdraw_bundle(connection, bundle, at=office.at)
                assert not enrolment.withdraw_bundle(connection, bundle, at=office.at)
            else:
                enrolment.revoke(connection, SIBLING, at=office.at, by="Ana")
    refused = Joiner(office, bundle, "late").ask()
    assert refused is not None
    assert refused.verdict == "refused"
    assert word in refused.reason
    assert state_of(office) in {"invited", "revoked"}


def test_a_new_bundle_makes_the_older_ones_worthless(office: Office) -> None:
    """A bundle that went astray is cured by another one."""
    astray, good = invite(office), invite(office)
    refused = Joiner(office, astray, "finder").ask()
    assert refused is not None
    assert refused.verdict == "refused"
    joined = Joiner(office, good, "new").ask()
    assert joined is not None
    assert joined.verdict == "accepted"


def test_what_the_bundle_did_not_sign_is_not_answered(office: Office) -> None:
    """Another invite key, a proof for another token or of another key, another bundle's topic."""
    bundle = invite(office)
    joiner = Joiner(office, bundle, "new")
    other = SigningKey(seed("other"))
    other_proof = signature_text(other.sign(proof_bytes(bundle, joiner.token_hash)))
    assert joiner.ask(invite=other) is None
    assert joiner.ask(invite=joiner.key) is None
    assert joiner.ask(proof=other_proof) is None
    assert joiner.ask(token_hash=token_hash("another")) is None
    assert joiner.ask(device_key="A" * 43) is None
    topic, elsewhere = TOPICS.join(bundle), TOPICS.join("0" * 16)
    events = [
        Heard(topic, frame.encode(joiner.request(), elsewhere, INVITE)),
        Heard(elsewhere, frame.encode(joiner.request(), elsewhere, INVITE)),
        Heard(topic, frame.encode(Bye(run="1" * 32), topic, INVITE)),
        Heard(topic, b"garbage"),
        Heard(TOPICS.from_(SIBLING), frame.encode(joiner.request(), topic, INVITE)),
    ]
    out = office.desk.handle(events, office.now)
    assert [one for one in out if "/join/" in one.topic] == []
    assert state_of(office) == "invited"
    assert office.rows("SELECT device_key FROM bundle") == [(None,)]
    assert set(office.incidents()) == {"forged", "not a device"}


def test_hq_does_not_answer_itself(office: Office) -> None:
    """Its answers come back on the topic that both share."""
    joiner = Joiner(office, invite(office), "new")
    joiner.ask()
    changes = office.ledger.connection.total_changes
    topic = TOPICS.join(joiner.bundle)
    own = Joined(nonce=new_id(), verdict="accepted")
    payload = frame.encode(own, topic, office.keys.signing(AT))
    assert office.desk.handle([Heard(topic, payload)], office.now) == []
    assert office.ledger.connection.total_changes == changes


def test_a_flood_of_requests_is_answered_within_bounds(office: Office) -> None:
    """Thirty a minute of one bundle."""
    joiner = Joiner(office, invite(office), "new")
    answers = [joiner.ask() for _ in range(100)]
    assert sum(one is not None for one in answers) == 30
    office.now += 60
    assert joiner.ask() is not None


def test_garbage_on_the_topic_uses_up_nothing(office: Office) -> None:
    """Only what the bundle's key has signed counts against the thirty."""
    joiner = Joiner(office, invite(office), "new")
    for _ in range(100):
        assert joiner.ask(invite=SigningKey(seed("a stranger"))) is None
    answer = joiner.ask()
    assert answer is not None
    assert answer.verdict == "accepted"


def test_an_operator_compares_the_fingerprint(office: Office) -> None:
    """With that setting a key waits until its fingerprint was confirmed, even past the expiry."""
    confirming(office)
    joiner = Joiner(office, invite(office), "new")
    waiting = joiner.ask()
    assert waiting is not None
    assert waiting.verdict == "waiting"
    assert fingerprint(joiner.key.public) in waiting.reason
    assert state_of(office) == "waiting"
    assert office.hear(office.a_hello(), identity=SIBLING, key=joiner.key) == []
    office.at += 30 * DAY
    stranger = SigningKey(seed("stranger")).public
    with office.ledger.write() as connection, pytest.raises(EnrolmentError) as refused:
        enrolment.confirm(connection, SIBLING, fingerprint(stranger), at=office.at)
    assert "hq device revoke" in str(refused.value.hint)
    with office.ledger.write() as connection:
        spoken = fingerprint(joiner.key.public).upper().replace(" ", "  ")
        enrolment.confirm(connection, SIBLING, spoken, at=office.at)
    assert access.bundles(office.ledger.connection, at=office.at), "it can still ask"
    joined = joiner.ask()
    assert joined is not None
    assert joined.verdict == "accepted"
    assert state_of(office) == "active"
    with office.ledger.write() as connection, pytest.raises(EnrolmentError):
        enrolment.confirm(connection, SIBLING, spoken, at=office.at)


def test_while_one_waits_another_is_refused_and_told_of(office: Office) -> None:
    """The bundle is taken by the first question, not only by the confirmation."""
    confirming(office)
    bundle = invite(office)
    Joiner(office, bundle, "first").ask()
    refused = Joiner(office, bundle, "second").ask()
    assert refused is not None
    assert refused.verdict == "refused"
    assert office.incidents() == ["bundle used twice"]


def test_a_rotation_leaves_the_old_key_until_the_new_one_joined(office: Office) -> None:
    """An active device is heard while its new bundle lies about, waits, and until it is used."""
    old = office.hello()
    assert old.mode == "snapshot"
    confirming(office)
    joiner = Joiner(office, invite(office, TILL), "new")
    assert office.hello().mode == "snapshot"
    joiner.ask()
    assert state_of(office, TILL) == "active"
    assert office.hello().mode == "snapshot"
    with office.ledger.write() as connection:
        enrolment.confirm(connection, TILL, joiner.key.id, at=office.at)
    assert office.hear(office.a_hello()) == []
    assert isinstance(office.hear(office.a_hello(), key=joiner.key)[0], Welcome)
    ended = office.rows("SELECT until_at IS NULL, why FROM device_key WHERE device_no = 1")
    assert ended == [(0, "rotated"), (1, "")]


def test_a_key_that_was_let_in_and_ended_is_not_let_in_by_its_old_bundle(office: Office) -> None:
    """After a revocation, and after another bundle replaced it, asking again is refused."""
    first = Joiner(office, invite(office), "first")
    first.ask()
    second = Joiner(office, invite(office), "second")
    second.ask()
    refused = first.ask()
    assert refused is not None
    assert refused.verdict == "refused"
    with office.ledger.write() as connection:
        enrolment.revoke(connection, SIBLING, at=office.at, by="Ana", why="stolen")
    refused = second.ask()
    assert refused is not None
    assert refused.verdict == "refused"
    assert office.rows("SELECT why FROM device_key ORDER BY no DESC LIMIT 1") == [
        ("revoked by Ana: stolen",)
    ]


def test_a_revoked_device_comes_back_only_with_a_new_bundle(office: Office) -> None:
    """Invited again it is still out, until it has joined."""
    with office.ledger.write() as connection:
        enrolment.revoke(connection, TILL, at=office.at, by="Ana")
    joiner = Joiner(office, invite(office, TILL), "new")
    assert office.hear(office.a_hello()) == []
    joiner.ask()
    assert office.hear(office.a_hello()) == []
    assert isinstance(office.hear(office.a_hello(), key=joiner.key)[0], Welcome)


def test_a_certificate_comes_with_the_answer_where_brokers_want_one(office: Office) -> None:
    """Made for the identity and the raw key; while the CA is away the device waits."""
    asked: list[tuple[str, bytes]] = []

    def issue(identity: str, raw: bytes) -> str:
        asked.append((identity, raw))
        if len(asked) == 1:
            raise HqError("the CA's key is not here")
        return "-----BEGIN CERTIFICATE-----"

    confirming(office, issue)
    joiner = Joiner(office, invite(office), "new")
    waiting = joiner.ask()
    assert waiting is not None
    assert waiting.verdict == "waiting"
    assert "the CA's key is not here" in waiting.reason
    joined = joiner.ask()
    assert joined is not None
    assert joined.certificate == "-----BEGIN CERTIFICATE-----"
    assert asked[1] == ("S1.till-2", joiner.key.public.raw)


def test_keys_that_commands_let_in_get_hqs_word_from_the_hub(office: Office) -> None:
    """Nobody asked for them, so the hub signs for them with its next turn."""
    office.enrol(SIBLING)
    office.desk.handle([Tick()], office.now)
    for topic, text, key_id, signature, device_key in office.rows(
        "SELECT joined_topic, joined_text, joined_key, joined_signature, key_id FROM device_key"
    ):
        frame.verify(frame.Envelope(key_id, signature, text), topic, office.keys.key_of)
        joined = frame.decode_text(text)
        assert isinstance(joined, Joined)
        assert joined.key == device_key
    assert office.rows("SELECT count(*) FROM device_key") == [(3,)]


def test_names_roles_and_numbers_are_checked_when_a_device_is_added(office: Office) -> None:
    """What could not stand in a topic, roles that the store lacks, and too many devices."""
    for identity, roles in [
        (Identity("S1", "till/1"), None),
        (Identity("S1", "+"), None),
        (Identity("S9", "till-1"), None),
        (SIBLING, ["astronaut"]),
    ]:
        with pytest.raises(HqError):
            invite(office, identity, roles=roles)
    with office.ledger.write() as connection:
        for number in range(199):
            enrolment.add(connection, Identity("S1", f"d{number}"), None, at=AT, new_id=new_id)
    with pytest.raises(EnrolmentError, match="200 devices"):
        invite(office, Identity("S1", "one-more"))
    assert office.rows("SELECT count(*) FROM bundle") == [(0,)]


def test_the_roles_of_a_new_bundle_are_the_devices(tmp_path: Path) -> None:
    """Given they count at once, left out they stay."""
    office = Office(tmp_path)
    office.roster("S1", "S2", roles=("manager", "clerk"))
    invite(office, roles=["clerk"])
    assert office.rows("SELECT roles FROM device WHERE name = 'till-2'") == [('["clerk"]',)]
    invite(office)
    assert office.rows("SELECT roles FROM device WHERE name = 'till-2'") == [('["clerk"]',)]
    office.ledger.close()


def test_who_may_not_speak_serves_nobody(office: Office) -> None:
    """What operators are shown of stores counts active devices, invited and revoked ones not."""

    def shown() -> tuple[list[str], dict[str, int]]:
        connection = office.ledger.connection
        mailboxes = [Mailbox("S1", "any"), Mailbox("S2", "any")]
        devices = {one["store"]: one["devices"] for one in store_views.stores(connection)}
        return [one.store for one in store_views.unserved(connection, mailboxes)], devices

    office.hello()
    office.hello(identity=OTHER)
    invite(office)
    assert shown() == ([], {"S1": 1, "S2": 1})
    with office.ledger.write() as connection:
        enrolment.revoke(connection, OTHER, at=office.at, by="Ana")
    assert shown() == (["S2"], {"S1": 1, "S2": 0})
