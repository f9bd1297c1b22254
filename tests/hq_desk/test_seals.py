"""HQ's seal: on what commands wrote before it leaves, and on what is taken back."""

from pathlib import Path
from typing import Any

import pytest

from buswire.cursors import START
from buswire.messages import HQ_KINDS, Records, Snapshot, Work, decode_data
from buswire.signing import check_seal, seal
from hqconsole.desk import Desk, Linked, Publish, Tick
from hqconsole.ledger import channels, directives, organisation, withdrawing
from tests.hq_desk.office import AT, TOPICS, Office, hq_keys, new_id, original


def down(office: Office, published: list[Publish]) -> list[Records]:
    """The records that go to channels."""
    return [office.read(one) for one in published if one.topic.startswith(f"{TOPICS.root}/down/")]


def cancel(office: Office, directive: str) -> None:
    """Withdraw a directive."""
    with office.ledger.write() as connection:
        withdrawing.cancel(
            connection,
            directives.find(connection, directive),
            reason="a mistake",
            by="Ana",
            organisation=organisation.organisation(connection),
            at=office.at,
            new_id=new_id,
        )


def test_what_commands_wrote_leaves_sealed(office: Office) -> None:
    """Directives and cancels bear HQ's seal on the channels, in replays and in snapshots."""
    first = office.hello()
    directive = office.issue()
    other = office.issue("Another one")
    cancel(office, other)
    out = down(office, office.desk.handle([Tick()], office.now))
    sent = [record for message in out for record in message.records]
    key = office.keys.signing(AT).public
    assert [record.kind for record in sent] == ["directive", "directive", "cancel"]
    for record in sent:
        check_seal(key, record.kind, bytes(record.data), record.seal)
    office.hello(set_version=first.set_version, cursors=first.heads)
    replayed = [r for one in office.answers if isinstance(one, Records) for r in one.records]
    assert [record.seal for record in replayed] == [record.seal for record in sent]
    office.hello()
    (page,) = [one for one in office.answers if isinstance(one, Snapshot)]
    (item,) = page.items
    assert decode_data("directive", item.data, HQ_KINDS).id == directive
    check_seal(key, "directive", bytes(item.data), item.seal)


def test_a_document_is_sealed_even_while_the_link_is_down(tmp_path: Path) -> None:
    """The seal is made with the first look at the ledger, once for ever."""
    office = Office(tmp_path)
    office.issue()
    office.desk.handle([Tick()], office.now)
    ((before,),) = office.rows("SELECT seal FROM doc")
    assert before
    office.keys.rotate()
    office.desk.take_keys(office.keys)
    office.desk.handle([Linked(), Tick()], office.now)
    assert office.rows("SELECT seal FROM doc") == [(before,)]
    office.ledger.close()


def test_nothing_unsealed_is_published(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command commits between the batch's commit and its sending waits for the next turn."""
    publish_new = Desk._publish_new
    issued: list[str] = []

    def late_command(self: Desk, batch: Any) -> None:
        if not issued:
            issued.append(office.issue("Just now"))
        publish_new(self, batch)

    office.issue("First")
    monkeypatch.setattr(Desk, "_publish_new", late_command)
    first = down(office, office.desk.handle([Tick()], office.now))
    assert [len(message.records) for message in first] == [1]
    assert office.desk.next_at(office.now) == office.now, "it is at work again at once"
    second = down(office, office.desk.handle([Tick()], office.now))
    assert [len(message.records) for message in second] == [1]
    assert second[0].records[0].seal
    assert down(office, office.desk.handle([Tick()], office.now)) == []


def forgotten(tmp_path: Path, *, cancelled: bool = False) -> tuple[str, str, bytes, str]:
    """What another ledger of the same head office issued: id, kind, bytes and seal."""
    folder = tmp_path / "before"
    folder.mkdir()
    before = Office(folder)
    directive = before.issue("Forgotten")
    if cancelled:
        cancel(before, directive)
    before.desk.handle([Tick()], before.now)
    kind, data, found = before.rows("SELECT kind, data, seal FROM doc ORDER BY no DESC")[0]
    before.ledger.close()
    return directive, kind, bytes(data), found


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("forgery", ["none", "stranger's", "device's", "altered", "other kind"])
def test_only_what_hq_sealed_is_taken_back(
    office: Office, tmp_path: Path, forgery: str, *, cancelled: bool
) -> None:
    """A store cannot issue or cancel by claiming that HQ forgot; the attempt is an incident."""
    _, kind, data, _ = forgotten(tmp_path, cancelled=cancelled)
    key = office.keys.signing(AT)
    seals = {
        "none": "",
        "stranger's": seal(hq_keys("stranger").signing(AT), kind, data),
        "device's": seal(hq_keys("till").signing(AT), kind, data),
        "altered": seal(key, kind, data + b" "),
        "other kind": seal(key, "state", data),
    }
    office.hello()
    sent_up = original(kind, data, seals[forgery])
    office.hear(Records(log="act", after=START, records=[sent_up]))
    assert office.rows("SELECT outcome FROM arrival") == [("aside",)]
    assert office.rows("SELECT * FROM directive") == office.rows("SELECT * FROM cancel") == []
    assert office.incidents() == ["forged"]


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_hq_sealed_with_any_key_of_its_own_is_taken_back(
    office: Office, tmp_path: Path, *, cancelled: bool
) -> None:
    """Also with one from three rotations ago, and it goes on with that seal."""
    _, kind, data, found = forgotten(tmp_path, cancelled=cancelled)
    for _ in range(3):
        office.keys.rotate()
    office.desk.take_keys(office.keys)
    office.hello()
    sent_up = original(kind, data, found)
    office.hear(Records(log="act", after=START, records=[sent_up]))
    assert office.rows("SELECT kind, seal FROM doc") == [(kind, found)]
    assert "forged" not in office.incidents()


def test_a_stolen_keys_seals_count_no_more_and_are_made_anew(
    office: Office, tmp_path: Path
) -> None:
    """What the thief sealed is not taken back; what HQ had sealed gets the new key's seal."""
    directive, kind, data, found = forgotten(tmp_path)
    office.issue("Genuine")
    office.desk.handle([Tick()], office.now)
    new = office.keys.recover(stolen=True)
    office.desk.take_keys(office.keys)
    office.desk.handle([Tick()], office.now)
    ((genuine, fresh),) = office.rows("SELECT data, seal FROM doc")
    check_seal(new.public, "directive", bytes(genuine), fresh)
    changes = office.ledger.connection.total_changes
    office.desk.handle([Tick()], office.now)
    assert office.ledger.connection.total_changes == changes, "once"
    office.hello(unsure=[Work(directive, "any")])
    office.hear(Records(log="act", after=START, records=[original(kind, data, found)]))
    assert office.rows("SELECT count(*) FROM directive") == [(1,)]
    assert "forged" in office.incidents()


def test_an_original_for_a_role_that_is_not_its_own_is_not_taken_back(
    office: Office, tmp_path: Path
) -> None:
    """The seal is HQ's, the role is not the device's."""
    _, kind, data, found = forgotten(tmp_path)
    office.hello()
    sent_up = original(kind, data, found, role="nobody")
    office.hear(Records(log="act", after=START, records=[sent_up]))
    assert office.rows("SELECT count(*) FROM directive") == [(0,)]
    assert office.incidents() == ["not its role"]


def test_an_older_ledger_is_sealed_whole_before_anything_of_it_leaves(tmp_path: Path) -> None:
    """Documents from before there were seals get theirs with the first turn of the hub."""
    office = Office(tmp_path)
    with office.ledger.write() as connection:
        for number in range(450):
            channels.add_doc(connection, "directive", f'{{"title": "{number}"}}'.encode())
            channels.add_doc(connection, "state", b"{}")
    office.desk.handle([Tick()], office.now)
    assert office.rows("SELECT count(*), count(seal) FROM doc WHERE kind = 'directive'") == [
        (450, 450)
    ]
    assert office.rows("SELECT count(seal) FROM doc WHERE kind = 'state'") == [(0,)]
    office.ledger.close()
