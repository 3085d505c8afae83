"""Parts of addresses that stand for something in the database."""

from django.urls.converters import StringConverter


class Name(StringConverter):
    """A part of the path that PostgreSQL can take."""

    regex = r"[^/\0]+"


class Key(StringConverter):
    """The rest of the path: a key may have slashes."""

    regex = r"[^\0]+"
