"""HQ's chain of keys: who can follow it, and who can lead nobody astray."""

import itertools
import random

import pytest

from buswire.errors import WireError
from buswire.signing import SigningKey
from buswire.trust import CHAIN_LIMIT, KeyEntry, Trust, Trusted, announce, chain_after

RECOVERY = SigningKey(b"\xaa" * 32)
THIEF = SigningKey(b"\xee" * 32)


def key(number: int) -> SigningKey:
    """The key of that number."""
    return SigningKey(number.to_bytes(32, "big"))


def chain(*, rotations: int = 5, epoch: int = 1) -> list[KeyEntry]:
    """A first key and so many rotations."""
    first = announce(key(1).public, epoch=epoch, number=1, by=RECOVERY)
    return [first] + [
        announce(key(number + 1).public, epoch=epoch, number=number + 1, by=key(number))
        for number in range(1, rotations + 1)
    ]


def pinned(entries: list[KeyEntry]) -> Trust:
    """A device that joined at the end of this chain."""
    return Trust(Trusted(recovery=RECOVERY.public.text)).follow(entries).trust


def trusted(trust: Trust) -> list[int]:
    """The numbers of the keys that are trusted."""
    return [n for n in range(1, 60) if trust.key_of(key(n).id) is not None]


def test_the_newest_key_and_the_one_before_it_are_trusted() -> None:
    """While one takes over from the other both may be heard; the third is not any more."""
    trust = pinned(chain(rotations=0))
    assert trusted(trust) == [1]
    assert trusted(pinned(chain(rotations=1))) == [1, 2]
    assert trusted(pinned(chain(rotations=5))) == [5, 6]
    assert pinned(chain(rotations=5)).newest == key(6).id


@pytest.mark.parametrize("slept_through", [1, 2, 3, 5, 40])
def test_who_slept_through_rotations_follows_them(slept_through: int) -> None:
    """From the key it knows to the present one, in as many welcomes as it takes."""
    whole = chain(rotations=slept_through)
    trust = pinned(whole[:1])
    for _ in range(5):
        trust = trust.follow(chain_after(whole, trust.newest)).trust
    assert trusted(trust) == [slept_through, slept_through + 1]


def test_a_chain_longer_than_a_welcome_comes_in_pieces() -> None:
    """Each piece begins behind the key that is known."""
    whole = chain(rotations=2 * CHAIN_LIMIT + 10)
    trust, pieces = pinned(whole[:1]), 0
    while piece := chain_after(whole, trust.newest):
        assert len(piece) <= CHAIN_LIMIT
        trust, pieces = trust.follow(piece).trust, pieces + 1
    assert pieces == 3
    assert trust.newest == key(2 * CHAIN_LIMIT + 11).id


def test_nobody_goes_back() -> None:
    """Old entries, again and in any order, change nothing."""
    whole = chain(rotations=3)
    trust = pinned(whole)
    for some in itertools.permutations(whole, 3):
        assert trust.follow(some).trust.kept == trust.kept


def test_an_entry_that_no_trusted_key_signed_is_refused() -> None:
    """A stranger, a key that is not trusted any more, and one signed by its own key."""
    trust = pinned(chain(rotations=3))
    for by in (THIEF, key(1), key(2)):
        forged = announce(THIEF.public, epoch=1, number=5, by=by)
        followed = trust.follow([forged])
        assert (followed.refused, followed.trust.kept) == (1, trust.kept)
    named = announce(THIEF.public, epoch=1, number=5, by=THIEF)
    lying = KeyEntry(epoch=1, number=5, key=named.key, by=key(4).id, signature=named.signature)
    assert trust.follow([lying]).refused == 1


def test_a_number_must_be_the_next_one() -> None:
    """A gap would let one key skip over those that HQ still uses."""
    trust = pinned(chain(rotations=1))
    ahead = announce(key(9).public, epoch=1, number=9, by=key(2))
    assert trust.follow([ahead]).trust.kept == trust.kept


def test_a_recovery_makes_all_earlier_keys_worthless() -> None:
    """Also one that a thief announced with a stolen key, however far on."""
    stolen = chain(rotations=2)
    astray = pinned(stolen)
    for number in range(4, 30):
        by = key(3) if number == 4 else THIEF
        astray = astray.follow([announce(THIEF.public, epoch=1, number=number, by=by)]).trust
    assert astray.newest == THIEF.id
    recovered = [*stolen, announce(key(50).public, epoch=2, number=1, by=RECOVERY)]
    trust = astray.follow(chain_after(recovered, astray.newest)).trust
    assert trusted(trust) == [50]
    assert trust.key_of(THIEF.id) is None
    again = announce(THIEF.public, epoch=1, number=31, by=THIEF)
    assert trust.follow([again, *stolen]).trust.kept == trust.kept


def test_only_the_recovery_key_begins_an_epoch() -> None:
    """A key that signs messages cannot, nor the recovery key of another chain."""
    trust = pinned(chain(rotations=1))
    for by in (key(2), THIEF):
        forged = announce(THIEF.public, epoch=2, number=1, by=by)
        assert trust.follow([forged]).refused == 1


def test_the_recovery_key_signs_no_rotations() -> None:
    """It stays offline: an entry of the present epoch with it is a mistake or a trick."""
    trust = pinned(chain(rotations=1))
    assert trust.follow([announce(THIEF.public, epoch=1, number=3, by=RECOVERY)]).refused == 1


def test_damaged_entries_are_refused_and_do_not_stop_what_follows() -> None:
    """Any one field altered; the true chain behind it is followed all the same."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    whole = chain(rotations=2)
    start = pinned(whole[:1])
    for _ in range(300):
        entry = whole[1]
        field = draw.choice(["key", "by", "signature", "number", "epoch"])
        values = {f: getattr(entry, f) for f in ("epoch", "number", "key", "by", "signature")}
        if field in {"epoch", "number"}:
            values[field] += draw.randrange(1, 2**40)
        else:
            text = values[field]
            place = draw.randrange(len(text))
            new = draw.choice([c for c in "0123456789abcdef" if c != text[place]])
            values[field] = text[:place] + new + text[place + 1 :]
        followed = start.follow([KeyEntry(**values)])
        assert followed.trust.kept == start.kept, f"seed {seed}, {field}"
        assert trusted(followed.trust.follow(whole).trust) == [2, 3], f"seed {seed}"


def test_who_knows_an_unknown_key_is_told_from_the_latest_recovery_on() -> None:
    """HQ cannot know where a thief led them, and the recovery outranks it anyway."""
    whole = [
        *chain(rotations=3),
        announce(key(20).public, epoch=2, number=1, by=RECOVERY),
        announce(key(21).public, epoch=2, number=2, by=key(20)),
    ]
    assert chain_after(whole, THIEF.id) == whole[4:]
    assert chain_after(whole, "") == whole[4:]
    assert chain_after(whole, key(21).id) == []
    assert chain_after(whole, key(2).id) == whole[2:]
    assert chain_after([], "") == []


def test_what_is_no_key_cannot_be_pinned() -> None:
    """A damaged file says so instead of trusting nobody for ever."""
    with pytest.raises(WireError):
        Trust(Trusted(recovery="x" * 43))
