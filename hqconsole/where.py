"""The language of `--where`: which stores, by what the roster says of them.

Owns the grammar, the tree that a text means, how a tree is written down again, and errors that
point at their place in the text. Knows no roster: which columns there are, and what a comparison
says of a cell, is in `where_match`.

    format=flagship and area_sqm > 800
    not (city in (Paris, "Saint-Denis") or tags has metro)
    门店类型 = 旗舰店 and opened < 2020-01-01

The grammar; letter case of the words does not matter, spaces and line breaks only separate:

    expression  = conjunction { "or" conjunction }
    conjunction = factor { "and" factor }
    factor      = "not" factor | "(" expression ")" | comparison
    comparison  = column ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
                | column [ "not" ] "in" "(" value { "," value } ")"
                | column [ "not" ] ( "contains" | "~" | "has" ) value
                | column "is" [ "not" ] "empty"
    column, value = a word, or a text in quotes

"and" binds closer than "or", "not" closest. A word is anything without spaces and without
`( ) , = ! < > ~ "`; the words of the grammar themselves are put in quotes to be values. Quotes are
single or double, also as other keyboards write them ("…", „…“, «…», 「…」); within, the closing
quote is doubled. Full-width signs mean what their narrow ones do; `==`, `<>`, `≠`, `≤` and `≥` are
read, too.

Invariants:
- `parse(written(tree)) == tree` for every tree that `parse` can give.
- Whatever the text, `parse` gives a tree or raises `WhereError`, in a time that grows with the
  text alone; a text, a nesting or a number of comparisons above the limits is refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from buskit.terminal import display_width, printable
from hqconsole.selector import AudienceError

MAX_CHARACTERS = 20_000
MAX_DEPTH = 50
MAX_COMPARISONS = 100

_AROUND = 50  # characters of the text that an error shows on either side
_KEYWORDS = frozenset({"and", "or", "not", "in", "contains", "has", "is", "empty"})
_QUOTES = dict(zip("\"'“‘„«「＂", "\"'”’“»」＂", strict=True))  # noqa: RUF001 - as people type them
_WIDE = "（）＝＜＞！，～"  # noqa: RUF001 - what Chinese and Japanese keyboards give
_NARROW = str.maketrans(_WIDE, "()=<>!,~")
_WORD = re.compile(rf"[^\s(),=!<>~≠≤≥\"{_WIDE}]+")
_SIGN = re.compile(r"<=|>=|!=|<>|==|[=<>~≠≤≥]")
_SAME_SIGN = {"==": "=", "<>": "!=", "≠": "!=", "≤": "<=", "≥": ">=", "~": "contains"}
_COMPARING = "=, !=, <, <=, >, >=, in, contains, has or is empty"
_MORE = "and, or, or the end"
_HINT = (
    "for example --where 'format=flagship and area_sqm>800'; a name or value with spaces goes in "
    "quotes; hq roster columns lists the columns"
)


class WhereError(AudienceError):
    """An expression that cannot be read, or that this roster has no answer to.

    Attributes:
        problem: What is wrong, without the text.
        at: Where in the text, from 0.
    """

    def __init__(self, problem: str, text: str, at: int, *, hint: str = _HINT) -> None:
        """Point at a place in a text."""
        super().__init__(f"--where: {problem}\n{_pointed(text, at)}", hint=hint)
        self.problem = problem
        self.at = at


@dataclass(frozen=True, slots=True)
class Value:
    """What a cell is compared with; in quotes it is a text even if it looks like a number."""

    text: str
    quoted: bool = False
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One column against one value, or several with `in`, or none with `empty`.

    Attributes:
        column: As typed.
        operator: `=`, `<`, `<=`, `>`, `>=`, `in`, `contains`, `has` or `empty`.
        values: What it is compared with.
        negated: As in `!=`, `not in`, `is not empty`.
        at: Where the column stands in the text.
    """

    column: str
    operator: str
    values: tuple[Value, ...] = ()
    negated: bool = False
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """True where the part is not."""

    part: "Expression"


@dataclass(frozen=True, slots=True)
class And:
    """True where all of its two or more parts are."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """True where any of its two or more parts is."""

    parts: tuple["Expression", ...]


Expression = Comparison | Not | And | Or


def parse(text: str) -> Expression:
    """Return the tree that a text means.

    Raises:
        WhereError: It cannot be read; the message points at the place and says what was expected.
    """
    if len(text) > MAX_CHARACTERS:
        raise WhereError(
            f"the expression has {len(text):,} characters, {MAX_CHARACTERS:,} are the most",
            text,
            0,
            hint="give the stores a tag, or a column of their own, in the list of stores",
        )
    return _Parser(text).whole()


def written(tree: Expression) -> str:
    """Return a text that means the tree, with no more parentheses than it needs."""
    if isinstance(tree, Not):
        return f"not {_inside(tree.part)}"
    if isinstance(tree, And | Or):
        word = " and " if isinstance(tree, And) else " or "
        return word.join(
            _inside(part) if isinstance(tree, And) or isinstance(part, Or) else written(part)
            for part in tree.parts
        )
    column = column_written(tree.column)
    if tree.operator == "empty":
        return f"{column} is {'not ' if tree.negated else ''}empty"
    if tree.operator == "=":
        return f"{column} {'!=' if tree.negated else '='} {_value(tree.values[0])}"
    values = ", ".join(map(_value, tree.values))
    if tree.operator == "in":
        values = f"({values})"
    return f"{column} {'not ' if tree.negated else ''}{tree.operator} {values}"


def column_written(name: str) -> str:
    """Return a column's name as it is typed in an expression, in quotes if it must be."""
    return name if _is_word(name) else _quoted(name)


def _inside(tree: Expression) -> str:
    text = written(tree)
    return f"({text})" if isinstance(tree, And | Or) else text


def _value(value: Value) -> str:
    return value.text if not value.quoted and _is_word(value.text) else _quoted(value.text)


def _is_word(text: str) -> bool:
    return (
        _WORD.fullmatch(text) is not None
        and text[0] not in _QUOTES
        and text.casefold() not in _KEYWORDS
    )


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


class _Token(NamedTuple):
    """A piece of the text: its kind (word, quoted, keyword, a sign, end), meaning and place."""

    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    narrow = text.translate(_NARROW)
    found: list[_Token] = []
    at = 0
    while at < len(text):
        character = narrow[at]
        if character.isspace():
            at += 1
        elif character in "(),":
            found.append(_Token(character, character, at))
            at += 1
        elif character in _QUOTES:
            inside, end = _unquoted(text, at)
            found.append(_Token("quoted", inside, at))
            at = end
        elif sign := _SIGN.match(narrow, at):
            found.append(_Token("sign", _SAME_SIGN.get(sign[0], sign[0]), at))
            at = sign.end()
        elif word := _WORD.match(text, at):
            kind = "keyword" if word[0].casefold() in _KEYWORDS else "word"
            found.append(_Token(kind, word[0], at))
            at = word.end()
        else:  # a lonely !
            raise WhereError("! stands only in !=; to negate, write not", text, at)
    found.append(_Token("end", "", len(text)))
    return found


def _unquoted(text: str, at: int) -> tuple[str, int]:
    """The text in the quotes that open here, and where it goes on behind them."""
    close = _QUOTES[text[at]]
    pieces: list[str] = []
    start = at + 1
    while True:
        end = text.find(close, start)
        if end < 0:
            raise WhereError(f"this quote is not closed, {close} is missing", text, at)
        pieces.append(text[start:end])
        if text[end + 1 : end + 2] != close:
            return close.join(pieces), end + 1
        start = end + 2


class _Parser:
    """Reads one text; each method reads one rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0
        self._comparisons = 0

    def whole(self) -> Expression:
        if self._here.kind == "end":
            raise self._error("the expression is empty")
        tree = self._expression()
        if self._here.kind != "end":
            before = self._tokens[self._next - 1]
            if self._here.kind == "word" and before.kind == "word":
                both = f"{before.text} {self._here.text}"
                raise self._error(f'expected {_MORE}; a value with spaces goes in quotes: "{both}"')
            if self._here.kind == ")":
                raise self._error("this ) has no (")
            raise self._error(f"expected {_MORE}")
        return tree

    @property
    def _here(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._here
        self._next += 1
        return token

    def _keyword(self, *words: str) -> bool:
        return self._here.kind == "keyword" and self._here.text.casefold() in words

    def _error(self, problem: str, at: int | None = None) -> WhereError:
        return WhereError(problem, self._text, self._here.at if at is None else at)

    def _expression(self) -> Expression:
        return self._chain("or", self._conjunction, Or)

    def _conjunction(self) -> Expression:
        return self._chain("and", self._factor, And)

    def _chain(
        self, word: str, part: Callable[[], Expression], whole: type[And] | type[Or]
    ) -> Expression:
        parts = [part()]
        while self._keyword(word):
            self._take()
            parts.append(part())
        return parts[0] if len(parts) == 1 else whole(tuple(parts))

    def _factor(self) -> Expression:
        if not (self._keyword("not") or self._here.kind == "("):
            return self._comparison()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} deep")
        opening = self._take()
        tree: Expression
        if opening.kind == "(":
            tree = self._expression()
            if self._here.kind != ")":
                expected = f"expected {_MORE}" if self._here.kind != "end" else "it ends here"
                raise self._error(f"{expected}, and the ( is not closed")
            self._take()
        else:
            tree = Not(self._factor())
        self._depth -= 1
        return tree

    def _comparison(self) -> Comparison:
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise self._error(
                f"more than {MAX_COMPARISONS} comparisons; many values of one column go in one "
                "list: city in (Paris, Lyon)"
            )
        column = self._word("the name of a column")
        operator = self._take()
        if operator.kind == "sign":
            sign = operator.text
            name = "=" if sign == "!=" else sign
            value = self._value(sign)
            return Comparison(column.text, name, (value,), sign == "!=", column.at)
        self._next -= 1
        if self._keyword("is"):
            return self._emptiness(column)
        negated = self._keyword("not")
        if negated:
            self._take()
        if self._keyword("contains", "has") or (negated and self._here.text == "contains"):
            name = self._take().text.casefold()
            return Comparison(column.text, name, (self._value(name),), negated, column.at)
        if self._keyword("in"):
            self._take()
            return Comparison(column.text, "in", self._list(), negated, column.at)
        raise self._no_operator(column, negated=negated)

    def _no_operator(self, column: _Token, *, negated: bool) -> WhereError:
        if negated:
            return self._error("expected in, contains or has behind not")
        if column.kind == "quoted" and (len(self._tokens) == 2 or column.at == 0):
            return self._error(
                f"expected {_COMPARING}; if the quotes are around a whole expression, leave them "
                "out (on Windows the shell takes double quotes only)"
            )
        quoted = ""
        if column.kind == "word" and self._here.kind == "word":
            both = f"{column.text} {self._here.text}"
            quoted = f'; a column with spaces goes in quotes: "{both}"'
        return self._error(f"expected {_COMPARING} behind {printable(column.text)[:40]}{quoted}")

    def _emptiness(self, column: _Token) -> Comparison:
        self._take()
        negated = self._keyword("not")
        if negated:
            self._take()
        if not self._keyword("empty"):
            raise self._error("expected empty or not empty behind is; = compares with a value")
        self._take()
        return Comparison(column.text, "empty", (), negated, column.at)

    def _list(self) -> tuple[Value, ...]:
        if self._here.kind != "(":
            raise self._error("expected ( behind in: city in (Paris, Lyon)")
        self._take()
        values = [self._value("(")]
        while self._here.kind == ",":
            self._take()
            values.append(self._value(","))
        if self._here.kind != ")":
            raise self._error("expected , or ) in the list")
        self._take()
        return tuple(values)

    def _value(self, behind: str) -> Value:
        token = self._word(f"a value behind {behind}")
        return Value(token.text, token.kind == "quoted", token.at)

    def _word(self, what: str) -> _Token:
        token = self._here
        if token.kind in {"word", "quoted"}:
            return self._take()
        if token.kind == "keyword":
            raise self._error(
                f'expected {what}; "{token.text}" in quotes, if that is what is meant'
            )
        raise self._error(f"expected {what}")


def _pointed(text: str, at: int) -> str:
    """The line around a place, and a caret below it."""
    start, end = max(0, at - _AROUND), min(len(text), at + _AROUND)
    before = ("…" if start else "") + _line(text[start:at])
    behind = _line(text[at:end]) + ("…" if end < len(text) else "")
    return f"  {before}{behind}\n  {' ' * display_width(before)}^"


def _line(text: str) -> str:
    return printable("".join(" " if character.isspace() else character for character in text))


OPERATORS: Mapping[str, str] = {
    "=": "the same, whatever the letter case; numbers and dates by value",
    "!=": "not so, or nothing there",
    "< <= > >=": "numbers and dates by value",
    "in (a, b)": "= any of these",
    "contains": "has this text in it; short: ~",
    "has": "of a list: one of its entries is this",
    "is empty": "nothing there",
}
"""What each means, for people; `where_match` has it exactly."""
