"""Who is let in, who is put out, and what that changes for sessions that are connected."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.agent.processes import status, tool
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.processes.chain import Chain, Till

STORES = ("S001", "S002")
OUT_SECONDS = 2.0
"""A revoked device is out so soon."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain of two stores, S001 in the east and S002 in the west."""
    with Chain(tmp_path_factory.mktemp("chain"), STORES) as chain:
        yield chain


def _connections(till: Till) -> int:
    return till.said().count("connected to")


def _has(till: Till, directive: str) -> bool:
    return any(item["directive"] == directive for item in till.inbox())


def test_a_revoked_device_is_out_within_two_seconds_and_stays_out(chain: Chain) -> None:
    """Connected or started anew it hears and says nothing; let in again, it has lost nothing."""
    till = chain.till("S001")
    chain.wait_arrived("S001", chain.alert(till))
    before = till.said()
    chain.hq("device", "revoke", till.name, "--why", "stolen")
    began = time.monotonic()
    wait_until(lambda: till.said() != before, seconds=20, what="the broker to put it out")
    assert time.monotonic() - began < OUT_SECONDS * TIME_SCALE
    unheard = chain.alert(till)
    till.stop()
    till.start()
    directive = chain.publish("S001")
    chain.wait_arrived("S002", chain.alert(chain.till("S002")))
    notices = wait_until(
        lambda: [one for one in status(till.home)["notices"] if "storeagent join" in one],
        what="the notice at the store that it is not let in",
    )
    assert len(notices) == 1
    assert not chain.has_arrived("S001", unheard)
    assert not _has(till, directive)
    assert set(chain.states(directive).values()) == {"pending"}
    (shown,) = chain.hq_json("device", "list", "S001")
    assert shown["state"] == "revoked"

    till.stop()
    till.join(chain.bundle(till.name, "--roles", "manager"))
    till.start()
    chain.wait_arrived("S001", unheard)
    chain.wait_state(directive, "delivered")


def test_a_store_that_moves_hears_its_new_region_on_the_same_connection(chain: Chain) -> None:
    """What goes to its old region does not reach it any more."""
    till, other = chain.till("S001"), chain.till("S002")
    chain.wait_settled()
    connections = _connections(till)
    chain.import_roster(S001="west")
    west = wait_until(
        lambda: json.loads((chain.home / "access.json").read_bytes()), what="the access file"
    )
    assert west
    to_west = chain.hq_json("publish", "for the west", "--region", "west", "--kind", "task")["id"]
    for one in (till, other):
        wait_until(lambda one=one: _has(one, to_west), what="the west's work")
    assert _connections(till) == connections
    heads = json.loads((chain.home / "access.json").read_bytes())["devices"][till.name]["region"]
    assert heads == "west"
    chain.journal.directives[to_west] = {("S001", "any"): None, ("S002", "any"): None}
    chain.import_roster()
    to_east = chain.hq_json("publish", "for the east", "--region", "east", "--kind", "task")["id"]
    wait_until(lambda: _has(till, to_east), what="the east's work")
    chain.wait_arrived("S002", chain.alert(other))
    assert not _has(other, to_east)
    assert _connections(till) == connections
    chain.journal.directives[to_east] = {("S001", "any"): None}


def test_a_role_that_is_taken_away_is_not_heard_any_more(chain: Chain) -> None:
    """The same connection: work for the role stays at HQ until the device has the role again."""
    till = chain.till("S002")
    chain.wait_settled()
    connections = _connections(till)
    chain.hq("roster", "assign", "S002", "till-1", "--role", "clerk")
    chain.wait_access_taken(lambda access: access["devices"][till.name]["roles"] == ["clerk"])
    hidden = chain.issue("S002", role="manager")
    shown = chain.issue("S002")
    chain.wait_state(shown, "delivered")
    for_clerks = chain.issue("S002", role="clerk")
    chain.wait_state(for_clerks, "delivered")
    assert not _has(till, hidden)
    assert chain.states(hidden) == {("S002", "manager"): "pending"}
    chain.hq("roster", "assign", "S002", "till-1", "--role", "clerk", "--role", "manager")
    chain.wait_state(hidden, "delivered")
    assert _connections(till) == connections


def test_a_bundle_that_is_used_twice_lets_in_nobody_else_and_is_an_incident(chain: Chain) -> None:
    """The first one stays the device; both machines are named."""
    bundle = chain.bundle("S001.spare", "--roles", "clerk")
    first, second = chain.folder / "spare", chain.folder / "thief"
    joined = tool("join", str(bundle), home=first)
    assert joined.returncode == 0, joined.stderr
    again = tool("join", str(bundle), home=first)
    assert again.returncode in {0, 1}, again.stderr  # the same key asks again: nothing changes
    refused = tool("join", str(bundle), "--wait-seconds", "20", home=second)
    assert refused.returncode != 0
    assert not (second / "device.key").exists()
    (incident,) = wait_until(
        lambda: chain.incidents("bundle used twice"), what="the incident of the second use"
    )
    assert incident["store"] == "S001"
    key = json.loads((first / "device.key").read_bytes())
    assert key["device"] == "spare"
