"""What incidents mean, in words: what happened, and what an operator can do about it. Pure.

Who records an incident decides its kind and its details; a kind that is not known here, or details
that are not as expected, are shown as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any

from buskit.terminal import clock

Detail = Mapping[str, Any]

ADVICE: Mapping[str, str] = {
    "forged": "once after a rotation or a restored machine is nothing; if it grows, somebody is at"
    " work, or the broker alters what passes through it",
    "not a device": "if it should be one: hq device add STORE DEVICE, then storeagent join there",
    "revoked device speaks": "it is dropped; find the machine if it should not be on at all",
    "bundle used twice": "somebody else had the bundle: hq device revoke STORE.DEVICE, then"
    " hq device add STORE DEVICE",
    "cloned device": "stop one of the two and give it an identity of its own:"
    " hq device add STORE ANOTHER-NAME",
    "not its role": "what it said had no effect; if it should count: hq roster assign",
    "too much kept": "nothing more is taken of it: hq device allow STORE.DEVICE --bytes N, or look"
    " at what it sends",
    "entries may be lost": "compare with what the tills have",
    "unreadable messages": "its log stands still until its program is mended, or it joins anew"
    " with an empty disk: look at hq quarantine, and at storeagent status there",
    "a defect of HQ's program": "what it failed on is kept, the rest went on; after an upgrade:"
    " hq quarantine --retry",
    "HQ's clock was set": "until it is back, or devices say that it is right, the hub goes by the"
    " time before; if it is right: hq incidents --acknowledge NO",
}
"""What to do about a kind, in a sentence."""


def words(kind: str, detail: Any) -> str:
    """What happened, in a sentence."""
    if not isinstance(detail, Mapping):
        return str(detail)
    try:
        found = _WORDS.get(kind)
        return _plain(detail) if found is None else found(detail)
    except (KeyError, IndexError, TypeError, ValueError):
        return _plain(detail)


def _plain(detail: Detail) -> str:
    return " ".join(f"{name}={value}" for name, value in detail.items())


def _refused(detail: Detail) -> str:
    """What was put aside: why, on which topic, how often by now."""
    times = int(detail["times"])
    often = "" if times == 1 else f", {times:,} times by now"
    return f"{detail['reason']} ({detail['source']}{often})"


def _used_twice(detail: Detail) -> str:
    first, second = detail["first"], detail["second"]
    return (
        f"bundle {detail['bundle']}: first {_machine(first)}, key {_key(first['key'])},"
        f" then {_machine(second)}, key {_key(second['key'])}"
    )


def _cloned(detail: Detail) -> str:
    one, other = detail["runs"]
    return "two at once: " + " and ".join(
        f"{_machine(run)} (run {run['run'][:8]}, heard {clock(run['heard_at'])})"
        for run in (one, other)
    )


def _machine(who: Detail) -> str:
    return f"on {who['machine']}" if who["machine"] else "on a machine without a name"


def _key(key_id: str) -> str:
    return f"{key_id[:4]} {key_id[4:8]}"


def _size(size_bytes: float) -> str:
    return f"{size_bytes / (1 << 20):,.1f} MiB"


_WORDS: Mapping[str, Callable[[Detail], str]] = {
    "forged": _refused,
    "not a device": _refused,
    "revoked device speaks": _refused,
    "bundle used twice": _used_twice,
    "cloned device": _cloned,
    "not its role": lambda detail: f"it answered for {detail['role']}, which it never served",
    "too much kept": lambda detail: (
        f"{_size(detail['kept_bytes'])} of {_size(detail['allowed_bytes'])} are used up"
    ),
    "entries may be lost": lambda detail: (
        f"{detail['entries']:,} entries of {detail['log']} may have died with its disk"
    ),
    "device trouble": lambda detail: ": ".join(
        str(part) for part in (detail["what"], detail["detail"]) if part
    ),
    "directive adopted": lambda detail: (
        f"it sent back {detail['directive'][:8]}, {detail['title']}"
    ),
    "HQ's clock was set": lambda detail: (
        f"to {clock(detail['clock_at'])}, by {abs(detail['ahead_seconds']):,} s"
        f" {'forward' if detail['ahead_seconds'] > 0 else 'back'}"
    ),
    "a defect of HQ's program": _refused,
    "unreadable messages": _refused,
    "restored": lambda detail: f"from {detail['copy']} by {detail['by'] or 'somebody'}",
}
