"""Which column of somebody's store list is which of ours.

Owns `--map` and the guessing of common foreign names; every guess is told. Knows nothing of cells.

`--map OURS=THEIRS`, where OURS is one of `FIELDS` and THEIRS

* a column name of the list: `store_id="Store Number"`; letter case, spaces and punctuation do not
  matter as long as one column is meant;
* `=` and a text, the same for every store: `timezone==Europe/Paris`, `roles==manager;clerk`;
* nothing, for no column at all, when a guess was wrong: `tags=`.

Columns that are none of ours are kept under their own names.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from buswire.names import shown
from hqconsole.errors import HqError
from hqconsole.suggestions import close_names

REQUIRED = ("store_id", "region")

# Ours to the names that other systems use, likeliest first, as `bare` writes them.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "store_id": (
        *("storeid", "storenumber", "storeno", "storenr", "storenum", "storecode", "store"),
        *("shopid", "shopnumber", "shopno", "shopcode", "shop", "branchid", "branchnumber"),
        *("branchno", "branchcode", "branch", "siteid", "sitenumber", "sitecode", "outletid"),
        *("outletnumber", "outletcode", "locationid", "locationnumber", "locationcode"),
        *("filialnummer", "filialnr", "filiale", "codemagasin", "numéromagasin", "magasin"),
        *("códigotienda", "codigotienda", "tienda", "codiceneozio", "店舗コード", "店舗番号"),
        *("门店编号", "门店代码", "門店編號", "id", "number", "code"),
    ),
    "name": (
        *("name", "storename", "shopname", "branchname", "sitename", "outletname"),
        *("locationname", "displayname", "filialname", "nommagasin", "nom", "nombre"),
        *("店舗名", "门店名称", "門店名稱"),
    ),
    "region": (
        *("region", "regionname", "salesregion", "storeregion", "district", "districtname"),
        *("areaname", "territory", "région", "región", "gebiet", "bezirk"),
        *("地域", "エリア", "地区", "大区", "區域", "区域", "regionid", "regioncode"),
    ),
    "city": (
        *("city", "cityname", "storecity", "town", "municipality", "locality"),
        *("ville", "ciudad", "stadt", "ort", "市区町村", "城市"),
    ),
    "country": (
        *("country", "countryname", "storecountry", "countrycode", "pays", "país", "land"),
        *("国", "国家"),
    ),
    "timezone": (
        *("timezone", "timezonename", "timezoneid", "ianatimezone", "olsontimezone"),
        *("storetimezone", "tz", "tzname", "zeitzone", "fuseauhoraire", "zonahoraria"),
        *("タイムゾーン", "时区"),
    ),
    "roles": ("roles", "role", "storeroles", "staffroles", "rollen", "rôles"),
    "tags": ("tags", "tag", "labels", "label", "features", "services"),
}


class MappingError(HqError):
    """The columns of a list do not give what a roster needs."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each of our fields comes from in one list.

    Attributes:
        index: Our field to the position of its column.
        constants: Our field to the text that stands for every store.
        extra: (position, name) of the columns that are none of ours.
        theirs: Our field to what a person would call its source: a column name, or `=text`.
        guessed: The fields whose column was found by a foreign name.
    """

    index: Mapping[str, int]
    constants: Mapping[str, str]
    extra: Sequence[tuple[int, str]]
    theirs: Mapping[str, str]
    guessed: Sequence[str]


def parse_mapping(items: Iterable[str]) -> dict[str, str]:
    """Return the mapping that `--map` words such as `store_id=Store Number` mean.

    Raises:
        MappingError: A word has no `=`, names none of our fields, or one that was named before.
    """
    mapping: dict[str, str] = {}
    for item in items:
        ours, equals, theirs = item.partition("=")
        ours = ours.strip()
        if not equals:
            raise MappingError(
                f"{shown(item)} maps nothing",
                hint='write OURS=THEIRS, for example --map store_id="Store Number"',
            )
        if ours in mapping:
            raise MappingError(f"{ours} is mapped twice", hint="leave one of them out")
        mapping[ours] = theirs.strip()
    _check_fields(mapping)
    return mapping


def resolve_columns(header: Sequence[str], mapping: Mapping[str, str]) -> Columns:
    """Find our fields in a header.

    Raises:
        MappingError: A mapped column is not there or there twice, or a required field is nowhere;
            the message lists the columns found, the hint is the `--map` to type.
    """
    _check_fields(mapping)
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(header):
        positions.setdefault(bare(name), []).append(position)
    index: dict[str, int] = {}
    constants: dict[str, str] = {}
    guessed: list[str] = []
    for ours, foreign in FIELDS.items():
        theirs = mapping.get(ours)
        if theirs is None:
            found = next((name for name in foreign if name in positions), None)
            if found is not None:
                index[ours] = _only(positions[found], header)
                if header[index[ours]] != ours:
                    guessed.append(ours)
        elif theirs.startswith("="):
            constants[ours] = theirs[1:].strip()
        elif theirs:
            index[ours] = _mapped(ours, theirs, header, positions)
    if "store_id" in constants:
        raise MappingError(
            "every store needs an identifier of its own, and store_id== gives all the same",
            hint='map a column: --map store_id="Store Number"',
        )
    missing = [ours for ours in REQUIRED if ours not in index and ours not in constants]
    if missing:
        raise _missing(missing, header, set(index.values()))
    return Columns(
        index,
        constants,
        _extra(header, set(index.values())),
        {ours: header[at] for ours, at in index.items()}
        | {o: f"={c}" for o, c in constants.items()},
        guessed,
    )


def _check_fields(mapping: Mapping[str, str]) -> None:
    for ours in mapping:
        if ours not in FIELDS:
            close = close_names(ours, FIELDS)
            raise MappingError(
                f"{shown(ours)} is none of our columns"
                + (f", did you mean {' or '.join(close)}?" if close else ""),
                hint=f"ours are {', '.join(FIELDS)}; other columns are kept without being mapped",
            )


def _mapped(
    ours: str, theirs: str, header: Sequence[str], positions: Mapping[str, list[int]]
) -> int:
    exact = [position for position, name in enumerate(header) if name == theirs]
    at = exact or positions.get(bare(theirs), []) if bare(theirs) else exact
    if at:
        return _only(at, header)
    close = close_names(theirs, header)
    raise MappingError(
        f"the list has no column {shown(theirs)} for {ours}; its columns are {_listed(header)}",
        hint=f'--map {ours}="{close[0]}"'
        if close
        else f"--map {ours}=COLUMN, or, if every store has the same, --map {ours}=={theirs}",
    )


def _only(at: list[int], header: Sequence[str]) -> int:
    if len(at) > 1:
        columns = " and ".join(str(position + 1) for position in at)
        raise MappingError(
            f"column {shown(header[at[0]])} cannot be told from another: columns {columns} have "
            "the same name",
            hint="give them different names in the first line of the list",
        )
    return at[0]


def _missing(missing: list[str], header: Sequence[str], used: set[int]) -> MappingError:
    free = [name for position, name in enumerate(header) if position not in used and name]
    words = []
    for ours in missing:
        near = [name for name in free if any(part in bare(name) for part in _HINTS[ours])]
        near = near or close_names(ours, free)
        words.append(f'{ours}="{near[0] if near else "COLUMN"}"')
    more = "" if "region" not in missing else "; a chain of one region: --map region==Main"
    return MappingError(
        f"the list has no column for {' and '.join(missing)}; its columns are {_listed(header)}",
        hint=f"say which they are: --map {' '.join(words)}{more}",
    )


# Parts of names that make a column worth proposing, though not worth taking for it.
_HINTS = {
    "store_id": ("number", "nummer", "code", "id", "no", "nr", "store", "shop"),
    "region": ("region", "area", "state", "province", "country", "division", "zone"),
}


def _extra(header: Sequence[str], used: set[int]) -> tuple[tuple[int, str], ...]:
    names: set[str] = set()
    extra: list[tuple[int, str]] = []
    for position, header_name in enumerate(header):
        if position in used:
            continue
        name = header_name or f"column {position + 1}"
        if name in names:
            name = f"{name} ({position + 1})"
        names.add(name)
        extra.append((position, name))
    return tuple(extra)


def _listed(header: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in header[:60]) + (", …" if len(header) > 60 else "")


def bare(name: str) -> str:
    """A column name without what does not matter: `Store No.` and `store_no` are both `storeno`."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in folded if character.isalnum())
