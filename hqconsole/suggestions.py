"""Close names for what somebody may have meant; slow over many, so for error messages only."""

import difflib
from collections.abc import Iterable

_AT_MOST = 3


def close_names(text: str, known: Iterable[str]) -> list[str]:
    """Return up to three of the known names that `text` may have been meant for, closest first.

    Letter case does not matter. A name that differs in nothing else is the only one returned.
    """
    wanted = text.casefold()
    if not wanted or len(wanted) > 200:
        return []
    by_folded: dict[str, str] = {}
    for name in sorted(known):
        by_folded.setdefault(name.casefold(), name)
    if wanted in by_folded:
        return [by_folded[wanted]]
    matches = difflib.get_close_matches(wanted, by_folded, n=_AT_MOST, cutoff=0.6)
    if not matches:
        matches = sorted(name for name in by_folded if name.startswith(wanted))[:_AT_MOST]
    return [by_folded[match] for match in matches]
