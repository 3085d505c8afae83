"""What is written into a search box, and what it means."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import Q
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from events.models import Event
from project import searching
from project.searching import Asked, Condition, Field, Search, SearchError, Term, choice, moment, terms


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(searching).failed == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("refund", [Term("", "refund")]),
        ("type:order.*  refund", [Term("type", "order.*"), Term("", "refund")]),
        ('subject:"A 42"', [Term("subject", "A 42", quoted=True)]),
        ('"type:order"', [Term("", "type:order", quoted=True)]),
        ("12:30", [Term("", "12:30")]),
        ("since:2026-11-30T14:00", [Term("since", "2026-11-30T14:00")]),
        ('""', [Term("", "", quoted=True)]),
        ('5"', [Term("", '5"')]),
    ],
)
def test_a_text_is_fields_with_values_and_words(text: str, found: list[Term]) -> None:
    assert terms(text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"open', "A quotation mark is not closed"),
        ('"a"b', "a word touches it"),
        ("type: order", "type: has no value: write type:VALUE without a space"),
        ("a\0", "NUL"),
        (" ".join("abcdefghijk"), "There are 11 words; at most 10"),
    ],
)
def test_what_is_none_says_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(SearchError, match=says):
        terms(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = terms(text)
    except SearchError:
        return
    assert all(term.value for term in found if not term.quoted)


def test_a_time_is_a_date_or_how_long_ago() -> None:
    assert moment("2026-11-30") == datetime(2026, 11, 30, tzinfo=UTC)
    assert moment("2026-11-30T14:05") == datetime(2026, 11, 30, 14, 5, tzinfo=UTC)
    assert moment("2026-11-30T14:05:06+02:00") == datetime(2026, 11, 30, 12, 5, 6, tzinfo=UTC)
    assert abs(timezone.now() - timedelta(hours=2) - moment("2h")) < timedelta(seconds=5)
    for wrong in ("", "yesterday", "2026-13-01", "2026-11-30T25:00", "-2h", "14:00"):
        with pytest.raises(SearchError, match="is not a time: write 2026-11-30"):
            moment(wrong)


def notes() -> Search:
    return Search(
        Event,
        {
            "id": Field("the id", lambda value: Condition([Q(event_id=value)], rank=0)),
            "type": Field("the type", lambda value: Condition([Q(type=value)], rank=3)),
            "state": Field("a state", choice("state", {"open": Condition([Q(due_at=None)])})),
        },
        words=("subject",),
        in_words="the subject",
        keys=(),
        example="type:note",
    )


def test_one_index_leads_and_the_rest_is_looked_at_row_by_row() -> None:
    assert Asked().led is None
    asked = notes().read("type:note id:7 state:open word")
    assert asked.led is asked.conditions[1]
    assert asked.checks == [asked.conditions[0], *asked.conditions[2:]]
    asked = notes().read("since:2h type:note")
    assert asked.led is asked.conditions[0]
    assert asked.checks == []
    assert "pk__gte" in str(asked.span)
    asked = notes().read("state:open")
    assert (asked.led, len(asked.checks)) == (None, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "typ:note",
            'Unknown field "typ", did you mean "type"? known: id, type, state, since, until. '
            'To look for it as a word, quote it: "typ:note"',
        ),
        ("state:shut", 'state: unknown state "shut"; known: open.'),
        ("since:soon", 'since: "soon" is not a time'),
    ],
)
def test_a_term_that_means_nothing_names_what_does(text: str, says: str) -> None:
    with pytest.raises(SearchError) as caught:
        notes().read(text)
    assert str(caught.value).startswith(says)
    assert caught.value.given == ""


def test_a_field_given_beside_the_text_is_named() -> None:
    with pytest.raises(SearchError) as caught:
        notes().read("", [("state", "shut")])
    assert caught.value.given == "state"


def test_help_names_every_field() -> None:
    assert [name for name, _ in notes().help] == notes().names == ["id", "type", "state", "since", "until"]
