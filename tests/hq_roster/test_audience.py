"""Who is meant, and which channels reach exactly them."""

import dataclasses
import hashlib
import itertools
import shlex
import subprocess
from collections.abc import Collection

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
    choose,
    cover,
    digest,
    drift,
    left_out,
    select,
    select_again,
    unreachable,
)
from hqconsole.selector import in_words, selector_from_json, selector_to_json
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


def test_exclusions_take_away_last() -> None:
    """Whatever brought a store in: a region, its own name, a tag; and never everyone by silence."""
    assert chosen(everyone=True, excluded_regions=("East", "west")) == {"S018/any"}
    assert chosen(stores=("S001", "S017"), excluded_stores=("S001",)) == {"S017/any"}
    assert chosen(roles=("manager",), excluded_tags=("24h", "airport")) == {"S003/manager"}
    with pytest.raises(AudienceError, match="nobody was named"):
        chosen(excluded_regions=("east",))
    with pytest.raises(AudienceError, match="no store 'S0O1', did you mean"):
        chosen(everyone=True, excluded_stores=("S0O1",))
    with pytest.raises(AudienceError, match="no store is meant"):
        chosen(regions=("east",), excluded_tags=("24h",))


def test_where_restricts_and_is_read_only_when_asked_for() -> None:
    """The columns of the roster are read once, by whom uses them alone."""
    reads = []

    def read_cells(own: Collection[str]) -> dict[str, dict[str, str]]:
        reads.append(set(own))
        return {"S001": {"format": "express"}, "S002": {"format": "flagship"}}

    there = Organisation({"S001": store("east"), "S002": store("east")}, read_cells)
    select(Selector(regions=("east",)), there)
    assert not reads
    found = select(Selector(regions=("east",), where="format=flagship"), there)
    assert found == {Mailbox("S002", "any")}
    select(Selector(where="format=express", roles=("manager",)), there)
    assert reads == [set()]
    with pytest.raises(AudienceError, match="no store has city 'Paris'"):
        select(Selector(where="Stadt=Paris or region=east and format=big"), there)
    assert reads[1:] == [{"city", "region", "region_name"}]
    with pytest.raises(AudienceError, match="no store has format 'big'"):
        select(Selector(where="format=big"), there)
    assert chosen(where="region=east and tags has drive-thru") == {"S002/any"}


def with_saved(selector: Selector, **saved: Selector) -> Selector:
    """The selector with these definitions."""
    return dataclasses.replace(selector, definitions=tuple(saved.items()))


def test_saved_audiences_add_up_as_places_do() -> None:
    """Their own roles hold unless others are asked for; restrictions outside hold for them too."""
    saved = {
        "managers": Selector(regions=("east",), roles=("manager",)),
        "pilots": Selector(stores=("S003", "S017"), excluded_stores=("S003",)),
        "both": Selector(audiences=("managers", "pilots")),
    }

    def words(**kwargs: object) -> set[str]:
        selector = Selector(**kwargs)  # type: ignore[arg-type]
        return {str(mailbox) for mailbox in select(with_saved(selector, **saved), CHAIN)}

    managers = {"S001/manager", "S002/manager"}
    assert words(audiences=("managers",)) == managers
    assert words(audiences=("both",)) == managers | {"S017/any"}
    assert words(audiences=("pilots",), stores=("S003",)) == {"S003/any", "S017/any"}
    assert words(audiences=("both",), roles=("manager",)) == managers | {"S017/manager"}
    assert words(audiences=("both",), tags=("24h",), excluded_stores=("S001",)) == {"S002/manager"}
    with pytest.raises(AudienceError, match="contradict"):
        words(everyone=True, audiences=("both",))
    with pytest.raises(AudienceError, match="'lost'"):
        words(audiences=("lost",))


def test_a_saved_audience_that_leads_back_to_itself_is_refused() -> None:
    """Also where the ledger was written by something else."""
    there = {"a": Selector(audiences=("b",)), "b": Selector(audiences=("a",))}
    with pytest.raises(AudienceError, match="leads back to itself"):
        select(with_saved(Selector(audiences=("a",)), **there), CHAIN)


def test_what_was_saved_on_another_day_is_taken_as_it_stands() -> None:
    """Closed stores and lost regions add nothing and are told; a lost tag or role is nobody."""
    saved = Selector(stores=("S001", "S999"), regions=("gone",))
    found = choose(with_saved(Selector(audiences=("old",)), old=saved), CHAIN)
    assert {str(mailbox) for mailbox in found.mailboxes} == {"S001/any"}
    assert found.notes == (
        "audience old: there is no store 'S999' any longer",
        "audience old: there is no region 'gone' any longer",
    )
    for nobody in (
        Selector(),
        Selector(excluded_stores=("S001",)),
        Selector(regions=("gone",)),
        Selector(regions=("east",), tags=("gone",)),
        Selector(regions=("east",), tags=("24h", "gone")),
        Selector(regions=("east",), roles=("gone",)),
    ):
        assert select_again(nobody, CHAIN) == set()
    assert select_again(Selector(regions=("east",), excluded_stores=("S999", "S001")), CHAIN) == {
        Mailbox("S002", "any")
    }
    with pytest.raises(AudienceError, match="no column 'format'"):
        select_again(Selector(where="not format=flagship"), CHAIN)


def test_who_joined_and_who_left_is_told_apart() -> None:
    """The frozen audience stays; beside it stand who would be in it today, and who is gone."""
    frozen = {Mailbox("S001", "manager"), Mailbox("S999", "manager"), Mailbox("S018", "manager")}
    found = drift(frozen, Selector(regions=("east", "gone"), roles=("manager",)), CHAIN)
    assert found.joined == {Mailbox("S002", "manager")}
    assert found.left == {Mailbox("S999", "manager"), Mailbox("S018", "manager")}
    assert drift(frozen, None, CHAIN).joined == frozenset()
    assert drift({Mailbox("S001", "any")}, Selector(regions=("gone",)), CHAIN).joined == frozenset()


def test_a_selector_is_kept_as_it_was_asked() -> None:
    """As JSON and as options; what a newer program wrote is refused whole."""
    selector = with_saved(
        Selector(
            regions=("Île-de-France",),
            stores=("S017",),
            roles=("manager",),
            tags=("24h",),
            where="format = 'a b' and area_sqm>800",
            audiences=("pilots",),
            excluded_tags=("x",),
        ),
        pilots=Selector(everyone=True, excluded_stores=("S001",)),
    )
    text = selector_to_json(selector)
    assert selector_from_json(text) == selector
    assert "excluded_regions" not in text
    words = shlex.split(in_words(selector))
    assert words[:4] == ["--region", "Île-de-France", "--store", "S017"]
    assert selector.where in words
    for strange in ('{"colour":["red"]}', '{"regions":"east"}', "[]", "{", '{"everyone":false}'):
        with pytest.raises(AudienceError, match="does not understand"):
            selector_from_json(strange)
    with pytest.raises(AudienceError):
        selector_from_json('{"audiences":["a"],"definitions":{"a":{"colour":1}}}')


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
