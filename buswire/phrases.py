"""Text that can be said in another language later: English, and what it was made of.

Owns the one kind of text that a catalogue can be asked for. Must not know catalogues or languages:
who writes for people looks a phrase up (`storeagent.language`), and everybody else, such as a log,
a script or JSON, has plain English, because a phrase *is* its English text.

The first argument is the key of the catalogues, and is found there by reading the source; so it
must be written out where `phrase`, `phrase_in` or `phrases` is called. Values are put into it as
`str.format` does; those that are phrases themselves are translated with it.
"""

from collections.abc import Mapping
from typing import Any, Self


class Phrase(str):
    """English text that knows its template and its values.

    Attributes:
        template: The key of the catalogues.
        values: What is put into it.
        context: Tells equal English words apart that are different ones elsewhere; mostly empty.
        many: The template for other numbers than one; empty where no number decides.
        number: That number.
    """

    __slots__ = ("context", "many", "number", "template", "values")

    template: str
    values: Mapping[str, Any]
    context: str
    many: str
    number: int

    def __new__(
        cls,
        template: str,
        values: Mapping[str, Any],
        *,
        context: str = "",
        many: str = "",
        number: int = 1,
    ) -> Self:
        """Make one; `phrase`, `phrase_in` and `phrases` are what catalogues are made from."""
        made = super().__new__(
            cls, (many if many and number != 1 else template).format_map(dict(values))
        )
        made.template, made.values = template, values
        made.context, made.many, made.number = context, many, number
        return made


def phrase(template: str, /, **values: Any) -> Phrase:
    """A text of ours, such as `phrase("no room left for {what}", what=path)`."""
    return Phrase(template, values)


def phrase_in(context: str, template: str, /, **values: Any) -> Phrase:
    """A text that means something else elsewhere, such as `phrase_in("state", "read")`."""
    return Phrase(template, values, context=context)


def phrases(one: str, many: str, number: int, /, **values: Any) -> Phrase:
    """A text that hangs on a number, which stands in it as `{n}`."""
    return Phrase(one, {"n": number, **values}, many=many, number=number)
