"""HQ's keys are changed, and recovered, while devices sleep; a ledger comes back all the same."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from buswire.topics import DEFAULT_ROOT
from tests.agent.processes import tool
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.processes.chain import Chain
from tests.processes.stranger import FalseHub


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """A chain of two stores."""
    with Chain(tmp_path, ("S001", "S002")) as chain:
        yield chain


def _rotate(chain: Chain) -> None:
    """Announce another key that signs at once, and let HQ say something with it."""
    before = chain.hq_json("key", "list")["keys"][-1]["id"]
    chain.hq("key", "rotate", "--overlap", "0s")
    newest = chain.hq_json("key", "list")["keys"][-1]
    assert newest["id"] != before
    assert newest["signs"]
    chain.wait_arrived("S002", chain.alert(chain.till("S002")))


def test_devices_that_slept_through_rotations_and_a_recovery_follow(chain: Chain) -> None:
    """Two rotations asleep, then all keys stolen: work goes down and answers come up again."""
    asleep, awake = chain.till("S001"), chain.till("S002")
    chain.wait_state(chain.issue(), "delivered")
    asleep.stop()
    for _ in range(3):
        _rotate(chain)
    rotated = chain.issue()
    asleep.start()
    chain.wait_state(rotated, "delivered")
    chain.wait_arrived("S001", chain.alert(asleep))

    asleep.kill()
    number = chain.alert(asleep)
    recovery = chain.home / "keys" / "recovery.key"
    chain.hq("key", "recover", "--recovery-key", str(recovery), "--stolen")
    recovered = chain.issue()
    wait_until(
        lambda: chain.states(recovered)["S002", "any"] == "delivered",
        seconds=30,
        what="the device that was awake to take HQ's new key",
    )
    asleep.start()
    chain.wait_arrived("S001", number)
    chain.wait_state(recovered, "delivered")
    for till in (asleep, awake):
        for item in till.inbox():
            chain.say(till, item, "done")
    chain.wait_settled()
    account = chain.account()
    assert account.lost == []
    assert account.twice == []
    assert chain.incidents("forged") == []


def test_the_last_word_of_a_killed_hub_is_signed_by_the_key_of_today(chain: Chain) -> None:
    """After two rotations on one connection devices still believe it, and call nobody a forger."""
    for _ in range(2):
        _rotate(chain)
    newest = chain.hq_json("key", "list")["keys"][-1]["id"]
    wait_until(lambda: f"the key {newest[:8]} signs" in chain.hub.said(), what="the hub to sign")
    wait_until(
        lambda: chain.hub.said().rindex("connected to") > chain.hub.said().rindex("signs"),
        what="the hub to be back with another will",
    )
    chain.wait_arrived("S001", chain.alert(chain.till("S001")))
    with FalseHub(chain.bus.port, chain.home) as listener:
        heard = listener.listen(f"{DEFAULT_ROOT}/hq")
        heard.get(timeout=20 * TIME_SCALE)  # what the broker keeps
        chain.hub.kill()
        payload = b""
        while b'"up":false' not in payload:
            payload = heard.get(timeout=20 * TIME_SCALE)
    assert payload.split()[1] == newest.encode()
    chain.hub.start()
    for till in chain.tills.values():
        chain.wait_arrived(till.store, chain.alert(till))
        status = tool("status", "--json", home=till.home)
        assert json.loads(status.stdout)["aside"] == 0


def test_an_older_ledger_adopts_what_an_earlier_key_has_sealed(
    chain: Chain, tmp_path: Path
) -> None:
    """A backup, a directive, a rotation, the backup put back: the stores' copies are taken back."""
    copy = tmp_path / "copy.db"
    chain.wait_settled()
    chain.hq("backup", str(copy))
    forgotten = chain.publish()
    chain.wait_state(forgotten, "delivered")
    _rotate(chain)
    chain.wait_settled()
    chain.hub.stop()
    chain.hq("restore", str(copy), "--yes")
    assert chain.states(forgotten) == {}
    chain.hub.start()
    chain.wait_settled(seconds=60)
    assert set(chain.states(forgotten).values()) == {"delivered"}
    assert [one["kind"] for one in chain.incidents("forged")] == []
