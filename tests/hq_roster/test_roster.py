"""Store lists as other systems write them: what is read, what is assumed, what is refused."""

import codecs
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import hqconsole
from buswire.names import identifier
from hqconsole.audience import OpenStore, Organisation, Selector, cover, select
from hqconsole.errors import HqError
from hqconsole.roster import (
    MappingError,
    RosterError,
    StoreRow,
    TableError,
    ZoneError,
    difference,
    parse_mapping,
    read_stores,
    time_zone,
)

HEADER = "store_id,name,region,city,country,timezone,roles,tags"
GOOD = "S1,One,East,Łódź,Poland,Europe/Warsaw,Manager;Clerk,Drive Thru;24h"
STORE = StoreRow(
    store_id="S1",
    name="One",
    region="east",
    region_name="East",
    city="Łódź",
    country="Poland",
    timezone="Europe/Warsaw",
    roles=("manager", "clerk"),
    role_names=("Manager", "Clerk"),
    tags=("drive-thru", "24h"),
)


def listed(*rows: str, header: str = HEADER) -> bytes:
    """A list of these rows."""
    return "\n".join([header, *rows, ""]).encode()


def only_problem(*rows: str, header: str = HEADER, **options: str) -> tuple[int, str, str]:
    """The one problem of a list whose other rows are good."""
    read = read_stores(listed(*rows, header=header), **options)  # type: ignore[arg-type]
    assert len(read.problems) == 1, read.problems
    assert len(read.stores) == len(rows) - 1
    problem = read.problems[0]
    assert problem.reason.isprintable(), "text from outside reaches a terminal escaped"
    return problem.line, problem.column, problem.reason


def test_a_list_in_our_own_columns_is_read_without_a_question() -> None:
    """Nothing is guessed, assumed or lost."""
    read = read_stores(listed(GOOD))
    assert read.stores == [STORE]
    assert read.problems == []
    assert read.notices == []
    assert read.columns["region"] == "region"


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + listed(GOOD).replace(b"\n", b"\r\n"),
        listed(GOOD).decode().encode("utf-16"),
        listed(GOOD.replace(";", "|"), header=HEADER).replace(b",", b";"),
        listed(GOOD.replace(";", "|")).replace(b",", b"\t"),
        listed(GOOD.replace("Manager;Clerk", '" Manager ,Clerk,, manager"')),
        listed(GOOD.replace("Łódź", "Ło\u0301dz\u0301").replace("One", '" One\n"')),
    ],
)
def test_the_form_of_the_file_makes_no_difference(data: bytes) -> None:
    """A byte order mark, CRLF, UTF-16, other delimiters, other spellings of the same letters."""
    read = read_stores(data)
    assert read.problems == []
    assert read.stores == [STORE]


def test_foreign_columns_are_found_and_told() -> None:
    """What another system calls Store No. is ours, and the person importing hears it."""
    data = listed("7,Seven,North,TRUE", header="Store No.,STORE NAME,Sales Region,Florist")
    read = read_stores(data, default_timezone="europe/paris")
    assert read.stores == [
        StoreRow(
            store_id="7",
            name="Seven",
            region="north",
            region_name="North",
            city="",
            country="",
            timezone="Europe/Paris",
            roles=("manager", "clerk"),
            role_names=("manager", "clerk"),
            extra={"Florist": "TRUE"},
        )
    ]
    told = "\n".join(read.notices)
    assert "store_id is read from column 'Store No.'" in told
    assert "region is read from column 'Sales Region'" in told
    assert "every store gets manager and clerk" in told
    assert "every store is in Europe/Paris" in told
    assert "kept under their own names: 'Florist'" in told


def test_without_a_time_zone_utc_is_assumed_and_warned_about() -> None:
    """Due times would be hours off in silence."""
    read = read_stores(listed("1,e", header="store_id,region"))
    assert read.stores[0].timezone == "UTC"
    assert read.stores[0].name == "1"
    assert any("UTC" in notice and "--map timezone=" in notice for notice in read.notices)
    assert any("no column for name" in notice for notice in read.notices)


def test_mapped_columns_win_over_guesses() -> None:
    """One column may serve twice, a text may stand for all, and a wrong guess be called off."""
    mapping = parse_mapping(
        [
            "store_id=store number",
            "region=Country",
            "timezone==Asia/Dubai",
            "roles==Manager; Night Crew",
            "tags=",
        ]
    )
    header = "Store ID,Store Number,Country,Tags,Timezone"
    read = read_stores(listed("x/1,A-1,Côte d'Ivoire,a;b,nonsense", header=header), mapping)
    assert read.problems == []
    store = read.stores[0]
    assert (store.store_id, store.region, store.country) == (
        "A-1",
        "côte-d-ivoire",
        "Côte d'Ivoire",
    )
    assert (store.timezone, store.roles, store.tags) == (
        "Asia/Dubai",
        ("manager", "night-crew"),
        (),
    )
    assert store.extra == {"Store ID": "x/1", "Tags": "a;b", "Timezone": "nonsense"}
    assert read.columns == {
        "store_id": "Store Number",
        "region": "Country",
        "country": "Country",
        "timezone": "=Asia/Dubai",
        "roles": "=Manager; Night Crew",
    }


@pytest.mark.parametrize(
    ("items", "told"),
    [
        (["store_id"], "maps nothing"),
        (["store_id=a", "store_id=b"], "mapped twice"),
        (["storeid=a"], "did you mean store_id?"),
        (["colour=a"], "none of our columns"),
    ],
)
def test_a_mapping_that_means_nothing_is_refused(items: list[str], told: str) -> None:
    """The words of --map are checked before any file is opened."""
    with pytest.raises(MappingError) as caught:
        parse_mapping(items)
    assert told in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("header", "mapping", "told", "hint"),
    [
        (
            "Filialnummer 2,Land,Name",
            {},
            "no column for store_id and region; its columns are 'Filialnummer 2', 'Land', 'Name'",
            '--map store_id="Filialnummer 2" region="COLUMN"',
        ),
        ("store_id,State", {}, "no column for region", '--map region="State"'),
        ("store_id,x", {}, "no column for region", "--map region==Main"),
        ("store_id,region", {"name": "Nmae"}, "no column 'Nmae' for name", "--map name==Nmae"),
        ("store_id,Region 1", {"region": "Region"}, "no column 'Region'", '"Region 1"'),
        ("store_id,region", {"timezone": "Europe/Paris"}, "no column", "timezone==Europe/Paris"),
        ("Store ID,store_id,region", {}, "columns 1 and 2 have the same name", "different names"),
        ("a,a,region", {"store_id": "a"}, "columns 1 and 2", "different names"),
        ("store_id,region", {"store_id": "=S1"}, "identifier of its own", "--map store_id="),
        ("store_id,region", {"store": "x"}, "did you mean store_id", "ours are"),
        ("store_id,region", {"region": ""}, "no column for region", "--map region="),
        ("store_id,region", {"region": "==&"}, "no letter or digit", "--map region=="),
        ("store_id,region", {"timezone": "=Mars"}, "'Mars' is no time zone", "--map timezone=="),
        ("store_id,region", {"roles": "=any"}, "as a whole", "--map roles=="),
    ],
)
def test_columns_that_do_not_fit_are_one_error_with_the_map_to_type(
    header: str, mapping: Mapping[str, str], told: str, hint: str
) -> None:
    """The message lists what the list has, the hint what to type."""
    with pytest.raises(HqError) as caught:
        read_stores(listed("1" + "," * header.count(","), header=header), mapping)
    assert told in str(caught.value)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_duplicate_identifiers_are_told_with_both_lines() -> None:
    """Two stores cannot share one identifier, and both places are named."""
    line, column, reason = only_problem(GOOD, GOOD.replace("S1", "S2"), GOOD)
    assert (line, column) == (4, "store_id")
    assert reason == "store S1 is on line 2 and on line 4"


def test_identifiers_that_differ_in_letter_case_only_are_pointed_out() -> None:
    """They are two stores to the bus, and probably one to the person who typed them."""
    read = read_stores(listed(GOOD, GOOD.replace("S1", "s1")))
    assert len(read.stores) == 2
    assert read.notices == ["stores S1 and s1 differ in letter case only"]


@pytest.mark.parametrize(
    ("good", "bad", "column", "told"),
    [
        ("S1", "", "store_id", "no identifier"),
        ("S1", "a/b", "store_id", "write a-b,"),
        ("S1", "a.b", "store_id", "write a-b,"),
        ("S1", "No 1", "store_id", "a space"),
        ("S1", "#1", "store_id", "wildcard"),
        ("S1", "a\x07b", "store_id", "control character U+0007"),
        ("S1", "x" * 65, "store_id", "65 characters"),
        ("S1", "All", "store_id", "means every store"),
        ("One", "x" * 201, "name", "201 characters are more than the 200"),
        ("One", "\x1b[31mred", "name", "control character U+001B"),
        ("East", "", "region", "no region"),
        ("East", "&&&", "region", "no letter or digit"),
        ("East", "all", "region", "means every store"),
        ("East", "x" * 101, "region", "more than the 100"),
        ("East", "東" * 43, "region", "129 bytes"),
        ("Łódź", "x" * 101, "city", "more than the 100"),
        ("Poland", "x" * 101, "country", "more than the 100"),
        ("Europe/Warsaw", "", "timezone", "--timezone Europe/Paris"),
        ("Europe/Warsaw", "Europe/Warsow", "timezone", "did you mean Europe/Warsaw"),
        ("Europe/Warsaw", "Warsaw", "timezone", "did you mean Europe/Warsaw?"),
        ("Europe/Warsaw", "America/Argentina/Bu", "timezone", "Argentina/Buenos_Aires?"),
        ("Europe/Warsaw", "+01:00", "timezone", "summer time"),
        ("Europe/Warsaw", "GMT+1", "timezone", "summer time"),
        ("Europe/Warsaw", "Pacific Standard Time", "timezone", "Windows"),
        ("Europe/Warsaw", "../../etc/passwd", "timezone", "is no time zone"),
        ("Europe/Warsaw", "right/Europe/Paris", "timezone", "did you mean Europe/Paris?"),
        ("Manager;Clerk", "any", "roles", "the store as a whole"),
        ("Manager;Clerk", "Manager;&", "roles", "no letter or digit"),
        ("Manager;Clerk", ";".join(map(str, range(33))), "roles", "33 roles are more than the 32"),
        ("Drive Thru;24h", "&", "tags", "no letter or digit"),
        ("Drive Thru;24h", ";".join(map(str, range(65))), "tags", "65 tags are more than the 64"),
    ],
)
def test_a_bad_cell_is_told_by_line_column_and_reason(
    good: str, bad: str, column: str, told: str
) -> None:
    """The row with it is not taken, the rows around it are, and the reason says what to write."""
    row = GOOD.replace(good, bad)
    found = only_problem(GOOD.replace("S1", "S0"), row, GOOD.replace("S1", "S3"))
    assert found[:2] == (3, column)
    assert told in found[2]


def test_the_column_of_a_problem_is_called_what_the_list_calls_it() -> None:
    """The person who mends the list looks for their own column name."""
    header = HEADER.replace("store_id", "Store #") + ",opening hours"
    assert only_problem(f"a/b{GOOD[2:]},x", header=header)[1] == "Store #"
    assert only_problem(GOOD + "," + "x" * 2_001, header=header)[1] == "opening hours"


def test_everything_wrong_in_a_row_is_told_at_once() -> None:
    """One round of mending is enough; problems come in the order of the lines."""
    read = read_stores(listed("a/b,x,&,y,z,Mars,any,&", "1,2", "", GOOD, GOOD))
    assert [(problem.line, problem.column) for problem in read.problems] == [
        (2, "store_id"),
        (2, "region"),
        (2, "timezone"),
        (2, "roles"),
        (2, "tags"),
        (3, ""),
        (6, "store_id"),
    ]
    assert read.stores == [STORE]
    assert read.notices == ["empty rows passed over: 1"]


def test_a_problem_is_on_the_line_where_its_row_begins() -> None:
    """Quoted line breaks before and inside the row do not shift it."""
    rows = (GOOD.replace("One", '"One\r\nor two"'), GOOD.replace("S1,One", 'a/b,"x\ny"'))
    assert only_problem(*rows)[0] == 4


def test_two_regions_that_would_be_one_in_topics_are_refused() -> None:
    """A&B and A B are told apart by people and not by an identifier; case alone is merged."""
    line, column, reason = only_problem(
        GOOD.replace("East", "North & East"),
        GOOD.replace("S1", "S2").replace("East", "North East"),
    )
    assert (line, column) == (3, "region")
    assert "region 'North & East' on line 2" in reason
    read = read_stores(listed(GOOD, GOOD.replace("S1", "S2").replace("East", "EAST")))
    assert [store.region_name for store in read.stores] == ["East", "East"]
    assert read.notices == ["region 'EAST' is taken for 'East'"]


def test_each_role_has_one_display_name() -> None:
    """The first spelling of the list stands, and the others are told."""
    read = read_stores(listed(GOOD, GOOD.replace("S1", "S2").replace("Manager", "MANAGER")))
    assert read.stores[1].role_names == ("Manager", "Clerk")
    assert read.notices == ["role 'MANAGER' is taken for 'Manager'"]


def test_stores_without_a_role_are_counted() -> None:
    """Nothing but what goes to the whole store reaches them, and somebody should know."""
    read = read_stores(listed(GOOD, GOOD.replace("S1", "S2").replace("Manager;Clerk", "")))
    assert read.stores[1].roles == ()
    assert any(notice.startswith("stores without any role: 1") for notice in read.notices)


def test_a_default_time_zone_fills_empty_cells_only() -> None:
    """What the list says stands."""
    rows = (GOOD, GOOD.replace("S1", "S2").replace("Europe/Warsaw", ""))
    read = read_stores(listed(*rows), default_timezone="Asia/Tokyo")
    assert [store.timezone for store in read.stores] == ["Europe/Warsaw", "Asia/Tokyo"]
    with pytest.raises(ZoneError, match="'Tokio' is no time zone"):
        read_stores(listed(*rows), default_timezone="Tokio")


def test_time_zones_are_known_in_the_forms_that_systems_write() -> None:
    """Letter case, spaces and an offset before the name do not matter; the name is IANA's."""
    assert time_zone("europe/paris") == "Europe/Paris"
    assert time_zone("America/New York") == "America/New_York"
    assert time_zone("GMT+1:00 Europe/Andorra") == "Europe/Andorra"
    assert time_zone("(UTC-03:00) America/Argentina/Buenos_Aires") == (
        "America/Argentina/Buenos_Aires"
    )
    assert time_zone("UTC") == "UTC"
    for text in ("", "Factory", "localtime", "posixrules", "x" * 10_000, "\0"):
        with pytest.raises(ZoneError) as caught:
            time_zone(text)
        assert caught.value.hint
        assert len(str(caught.value)) < 100


def test_a_list_without_a_store_is_refused() -> None:
    """Importing it would close the whole chain."""
    with pytest.raises(RosterError, match="no store"):
        read_stores(listed())
    with pytest.raises(TableError, match="nothing in the list"):
        read_stores(b"")


def test_columns_that_are_none_of_ours_are_kept_by_name() -> None:
    """They are there for selecting by later; empty cells are not, and no name is lost."""
    header = HEADER + ',format,format,,"Öffnung\nszeit"'
    read = read_stores(listed(GOOD + ",big,small,x,9", header=header))
    assert read.stores[0].extra == {
        "format": "big",
        "format (10)": "small",
        "column 11": "x",
        "Öffnung szeit": "9",
    }
    read = read_stores(listed(GOOD + ",,,,", header=header))
    assert read.stores[0].extra == {}


def test_25000_rows_are_read_with_their_lines() -> None:
    """A list of the biggest chains, foreign in every column, one row of it bad."""
    rows = [
        f'{n}-{n * 7 % 1000},"Shop {n}, main",C{n % 70},City {n % 999},GMT+1:00 Europe/Andorra,{n}'
        for n in range(25_000)
    ]
    rows[20_000] = rows[20_000].replace("20000-", "20000/")
    header = "Store Number,Store Name,Country,City,Timezone,Postcode"
    read = read_stores(listed(*rows, header=header), {"region": "Country"})
    assert len(read.stores) == 24_999
    assert [(problem.line, problem.column) for problem in read.problems] == [
        (20_002, "Store Number")
    ]
    assert len({store.region for store in read.stores}) == 70


def test_a_difference_names_what_is_added_changed_and_closed() -> None:
    """Field by field, before and after; stores that are alike are counted."""
    same = replace(STORE, store_id="S0")
    old = {"S0": same, "S1": STORE, "S3": replace(STORE, store_id="S3")}
    moved = replace(
        STORE,
        region="west",
        region_name="West",
        roles=("manager", "pharmacy"),
        role_names=("Manager", "Pharmacy"),
        extra={"format": "big"},
    )
    found = difference(old, {"S0": same, "S1": moved, "S2": replace(STORE, store_id="S2")})
    assert [store.store_id for store in found.added] == ["S2"]
    assert [store.store_id for store in found.closed] == ["S3"]
    assert found.same == 1
    assert [change.store_id for change in found.changed] == ["S1"]
    assert found.changed[0].fields == {
        "region": ("east", "west"),
        "region_name": ("East", "West"),
        "roles": (("clerk", "manager"), ("manager", "pharmacy")),
        "role_names": (("Clerk", "Manager"), ("Manager", "Pharmacy")),
        "extra.format": ("", "big"),
    }
    assert not found.is_empty
    back = difference({"S1": moved}, {"S1": STORE})
    assert back.changed[0].fields["extra.format"] == ("big", "")


def test_the_order_of_roles_and_tags_is_no_difference() -> None:
    """Importing the same list sorted otherwise changes nothing."""
    other = replace(
        STORE,
        roles=("clerk", "manager"),
        role_names=("Clerk", "Manager"),
        tags=("24h", "drive-thru"),
    )
    assert difference({"S1": STORE}, {"S1": other}).is_empty


SAMPLE = Path(hqconsole.__file__).parent / "sample" / "stores.csv"


def test_the_sample_that_ships_is_a_clean_roster_with_something_of_everything() -> None:
    """About 40 stores, several regions, countries, time zones and scripts, and no problem."""
    read = read_stores(SAMPLE.read_bytes())
    assert read.problems == []
    assert read.notices == ["kept under their own names: 'format', 'area_sqm', 'opened'"]
    assert len(read.stores) == 40
    assert len({store.region for store in read.stores}) == 6
    assert len({store.timezone for store in read.stores}) >= 25
    assert "gulf-levant" in {store.region for store in read.stores}
    assert {"上海", "東京", "München", "São Paulo", "دبي"} <= {store.city for store in read.stores}
    for store in read.stores:
        assert {"manager", "clerk"} <= set(store.roles)
        assert set(store.extra) == {"format", "area_sqm", "opened"}
        assert identifier(store.region, "region") == store.region


def test_the_sample_answers_the_selectors_of_the_documents() -> None:
    """Region east and store S017, managers, drive-thru: each finds somebody, in few channels."""
    organisation = Organisation(
        {
            store.store_id: OpenStore(store.region, frozenset(store.roles), frozenset(store.tags))
            for store in read_stores(SAMPLE.read_bytes()).stores
        }
    )
    chosen = select(Selector(regions=("east",), stores=("S017",), roles=("manager",)), organisation)
    assert [str(use.channel) for use in cover(chosen, organisation)] == [
        "region/east/manager",
        "store/S017/manager",
    ]
    drive_thru = select(Selector(tags=("drive-thru",)), organisation)
    assert "S017" in {mailbox.store for mailbox in drive_thru}
    assert {role for store in organisation.stores.values() for role in store.roles} == {
        "manager",
        "clerk",
        "warehouse",
        "delivery",
        "pharmacy",
    }
