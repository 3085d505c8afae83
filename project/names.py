"""What a person reads about a name that nobody knows: the nearest one, and those there are."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

MOST_SHOWN: Final = 20


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """The message for a name that is not among the known ones, which are listed in their order, the first 20.

    >>> unknown("field", "templat", ["to", "template"])
    'unknown field "templat", did you mean "template"? known: to, template'
    >>> unknown("workflow", "x", [])
    'unknown workflow "x"; known: none'
    """
    close = get_close_matches(name, known, n=1)
    hint = f', did you mean "{close[0]}"?' if close else ";"
    shown = list(known)[:MOST_SHOWN]
    more = f" and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
    return f'unknown {kind} "{name}"{hint} known: {", ".join(shown) or "none"}{more}'
