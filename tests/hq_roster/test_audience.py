"""Who is meant, and which channels reach exactly them."""

import hashlib
import itertools
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buswire.topics import Channel, channels_of
from hqconsole.audience import (
    AudienceError,
    Mailbox,
    OpenStore,
    Organisation,
    Selector,
    cover,
    digest,
    left_out,
    select,
    unreachable,
)
from hqconsole.suggestions import close_names


def store(region: str, roles: str = "manager clerk", tags: str = "") -> OpenStore:
    """One store, its roles and tags as words."""
    return OpenStore(region, frozenset(roles.split()), frozenset(tags.split()))


CHAIN = Organisation(
    {
        "S001": store("east", tags="24h"),
        "S002": store("east", "manager warehouse", "drive-thru 24h"),
        "S003": store("west", tags="drive-thru"),
        "S017": store("west", "manager", "airport"),
        "S018": store("île-de-france", "clerk"),
    }
)


def chosen(**kwargs: object) -> set[str]:
    """The audience of a selector as words."""
    return {str(mailbox) for mailbox in select(Selector(**kwargs), CHAIN)}  # type: ignore[arg-type]


def test_places_add_up_and_a_store_is_a_whole_without_a_role() -> None:
    """Region east plus store S017, each as a whole."""
    assert chosen(regions=("east",), stores=("S017",)) == {"S001/any", "S002/any", "S017/any"}
    assert chosen(regions=("east",), stores=("S001",)) == {"S001/any", "S002/any"}


def test_roles_are_mailboxes_where_a_store_has_them() -> None:
    """Several roles are several mailboxes; a store without the role has none."""
    assert chosen(regions=("east",), roles=("manager", "clerk")) == {
        "S001/manager",
        "S001/clerk",
        "S002/manager",
    }
    assert chosen(roles=("warehouse",)) == {"S002/warehouse"}
    assert chosen(stores=("S017",), roles=("any", "manager")) == {"S017/any", "S017/manager"}


def test_tags_restrict_to_stores_that_have_them_all() -> None:
    """Each further tag makes the audience smaller, whatever the place."""
    assert chosen(tags=("drive-thru",)) == {"S002/any", "S003/any"}
    assert chosen(tags=("drive-thru", "24h")) == {"S002/any"}
    assert chosen(regions=("west",), tags=("drive-thru",), roles=("clerk",)) == {"S003/clerk"}


def test_everyone_is_said_and_never_left_out() -> None:
    """An empty selector is a slip; --all is every store, and --all with a place contradicts."""
    with pytest.raises(AudienceError, match="nobody was named") as caught:
        chosen()
    assert caught.value.hint is not None
    assert "--all" in caught.value.hint
    assert len(chosen(everyone=True)) == 5
    assert chosen(everyone=True, roles=("warehouse",)) == {"S002/warehouse"}
    with pytest.raises(AudienceError, match="contradict"):
        chosen(everyone=True, regions=("east",))


def test_display_names_find_what_they_name() -> None:
    """What people read in a list they may type: the slug is the same."""
    assert chosen(regions=("Île-de-France",)) == {"S018/any"}
    assert chosen(regions=("EAST", "east"), roles=("Warehouse",)) == {"S002/warehouse"}
    assert chosen(tags=("Drive Thru",), stores=("S003",)) == {"S003/any"}


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"regions": ("eest",)}, "no region 'eest', did you mean"),
        ({"stores": ("S0177",)}, "no store 'S0177', did you mean S017"),
        ({"stores": ("s017",)}, "no store 's017', did you mean S017?"),
        ({"roles": ("manger",)}, "no role 'manger', did you mean manager?"),
        ({"tags": ("24",)}, "no tag '24', did you mean 24h?"),
        ({"tags": ("\x1b[2J",)}, "no tag '\\x1b[2J'"),
        ({"regions": ("north", "xx")}, "; there is no region 'xx'"),
        ({"stores": tuple("abcdefgh")}, "and 3 more"),
        ({"stores": ("x" * 100_000,)}, "no store"),
    ],
)
def test_what_is_not_there_is_named_with_what_may_have_been_meant(
    kwargs: dict[str, tuple[str, ...]], told: str
) -> None:
    """A slip costs one more command, not a search."""
    with pytest.raises(AudienceError) as caught:
        chosen(**kwargs)
    assert told in str(caught.value)
    assert caught.value.hint
    assert len(str(caught.value)) < 500


def test_an_audience_of_nobody_is_refused() -> None:
    """Sending to no one is never what was meant."""
    with pytest.raises(AudienceError, match="no store is meant by that: --store S017 --role clerk"):
        chosen(stores=("S017",), roles=("clerk",))
    with pytest.raises(AudienceError, match="no open store"):
        select(Selector(everyone=True), Organisation({}))


def test_a_store_that_was_named_in_vain_is_reported() -> None:
    """The operator who named S017 hears that it has no clerk."""
    selector = Selector(stores=("S017", "S001"), roles=("clerk",))
    audience = select(selector, CHAIN)
    assert left_out(selector, audience) == ("S017",)


def test_a_cover_takes_the_widest_channel_that_is_exact() -> None:
    """All that have the role: one channel; a whole region: one; the rest by store."""
    everyone = select(Selector(everyone=True), CHAIN)
    assert [str(use.channel) for use in cover(everyone, CHAIN)] == ["all/any"]
    managers = select(Selector(roles=("manager",)), CHAIN)
    assert [str(use.channel) for use in cover(managers, CHAIN)] == ["all/manager"]
    mixed = select(Selector(regions=("east",), stores=("S017",), roles=("manager", "clerk")), CHAIN)
    uses = cover(mixed, CHAIN)
    assert [str(use.channel) for use in uses] == [
        "region/east/clerk",
        "region/east/manager",
        "store/S017/manager",
    ]
    assert uses[0].stores == {"S001"}
    assert uses[1].mailboxes == {Mailbox("S001", "manager"), Mailbox("S002", "manager")}


def test_a_mailbox_that_no_channel_reaches_is_an_error_and_can_be_asked_for() -> None:
    """A closed store or a lost role is never silently left out of a cover."""
    audience = {("S001", "manager"), ("S999", "any"), ("S017", "clerk")}
    assert unreachable(audience, CHAIN) == {("S999", "any"), ("S017", "clerk")}
    with pytest.raises(AudienceError, match="closed or do not have it"):
        cover(audience, CHAIN)
    assert len(cover(audience - unreachable(audience, CHAIN), CHAIN)) == 1
    assert cover((), CHAIN) == ()


ROLES = ("clerk", "manager")
REGIONS = ("e", "w", "all")

organisations = st.dictionaries(
    st.sampled_from(("1", "2", "3", "4", "5")),
    st.builds(
        OpenStore,
        st.sampled_from(REGIONS),
        st.frozensets(st.sampled_from(ROLES)),
        st.just(frozenset()),
    ),
    min_size=1,
).map(Organisation)


@st.composite
def audiences(draw: st.DrawFn) -> tuple[Organisation, set[Mailbox]]:
    """A tiny organisation and any of its audiences, whole regions and roles being likely."""
    organisation = draw(organisations)
    everything = {
        Mailbox(store_id, role)
        for store_id, known in organisation.stores.items()
        for role in ("any", *known.roles)
    }
    one_by_one = st.sets(st.sampled_from(sorted(everything)))
    by_region = st.sets(st.sampled_from(REGIONS)).map(
        lambda regions: {
            box for box in everything if organisation.stores[box.store].region in regions
        }
    )
    by_role = st.sets(st.sampled_from(("any", *ROLES))).map(
        lambda roles: {box for box in everything if box.role in roles}
    )
    parts = draw(st.lists(st.one_of(one_by_one, by_region, by_role), min_size=1, max_size=3))
    return organisation, set().union(*parts)


def heard_by(organisation: Organisation) -> dict[Channel, set[Mailbox]]:
    """Every channel and whom it reaches, from what the contract lets devices subscribe to."""
    reach: dict[Channel, set[Mailbox]] = {}
    for store_id, known in organisation.stores.items():
        for channel in channels_of(store_id, known.region, known.roles):
            reach.setdefault(channel, set()).add(Mailbox(store_id, channel.role))
    return reach


@settings(max_examples=250, deadline=None)
@given(audiences())
def test_covers_are_exact_without_overlap_and_cannot_be_smaller(
    drawn: tuple[Organisation, set[Mailbox]],
) -> None:
    """Against brute force over all sets of channels, for every role of a tiny organisation."""
    organisation, audience = drawn
    uses = cover(audience, organisation)
    reach = heard_by(organisation)
    for use in uses:
        assert use.mailboxes == reach[use.channel]
    reached = [box for use in uses for box in use.mailboxes]
    assert len(reached) == len(set(reached))
    assert set(reached) == audience

    fewest = 0
    for role in ("any", *ROLES):
        wanted = {box for box in audience if box.role == role}
        usable = [
            boxes for channel, boxes in reach.items() if channel.role == role and boxes <= wanted
        ]
        fewest += next(
            size
            for size in range(len(usable) + 1)
            for choice in itertools.combinations(usable, size)
            if set().union(*choice) == wanted
        )
    assert len(uses) == fewest


def test_a_digest_depends_on_the_members_alone_and_can_be_made_with_sort_and_sha256sum() -> None:
    """The frozen audience can be audited without this program."""
    audience = {("a-b", "any"), ("a", "manager"), ("a", "any"), ("東京", "any"), ("München", "x")}
    assert digest(audience) == digest(sorted(audience, reverse=True)) == digest([*audience] * 2)
    assert digest(audience) != digest(audience - {("a", "any")})
    text = "".join(f"{store_id}/{role}\n" for store_id, role in audience)
    ordered = subprocess.run(
        ["sort", "-u"], input=text.encode(), env={"LC_ALL": "C"}, capture_output=True, check=True
    ).stdout
    assert digest(audience) == hashlib.sha256(ordered).hexdigest()


def test_25000_stores_of_5_roles_are_selected_and_covered() -> None:
    """The size of the biggest chains gives the right handful of channels."""
    roles = frozenset({"manager", "clerk", "warehouse", "delivery", "pharmacy"})
    organisation = Organisation(
        {f"S{n:05}": OpenStore(f"r{n % 50}", roles, frozenset()) for n in range(25_000)}
    )
    audience = select(Selector(everyone=True, roles=tuple(roles)), organisation)
    assert len(audience) == 125_000
    assert {str(use.channel) for use in cover(audience, organisation)} == {
        f"all/{role}" for role in roles
    }
    audience.remove(Mailbox("S00007", "clerk"))
    uses = cover(audience, organisation)
    assert len(uses) == 4 + 49 + 499
    assert sum(len(use.stores) for use in uses) == 124_999


def test_close_names_are_few_and_nearest_first() -> None:
    """Suggestions help and never flood."""
    names = [f"store-{n}" for n in range(100)]
    assert close_names("STORE-7", names) == ["store-7"]
    assert 1 <= len(close_names("stor", names)) <= 3
    assert close_names("", names) == []
    assert close_names("zzzz", names) == []
