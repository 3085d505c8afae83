"""YAML as Carillon reads and writes it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.documents import DocumentError, read, write

WORDS = [
    "on",
    "yes",
    "null",
    "~",
    "1",
    "1.5",
    "1e3",
    "0x1f",
    "07",
    ".5",
    "-",
    "a: b",
    "x\ny",
    " x\r\n",
    "{",
    "- a",
    "22:00",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(WORDS)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)


@given(st.dictionaries(TEXT, JSON))
def test_what_is_written_is_read_back(data: dict[str, Any]) -> None:
    [document] = read(write(data))
    assert document.data == data


def test_words_that_are_traps_in_yaml_1_1_are_text() -> None:
    [document] = read(
        "{on: yes, if: no, at: 22:00, day: 2026-01-31, code: 0o17, really: true, rate: 1e3, none: ~, version: '1'}"
    )
    assert document.data == {
        "on": "yes",
        "if": "no",
        "at": "22:00",
        "day": "2026-01-31",
        "code": 15,
        "really": True,
        "rate": 1000.0,
        "none": None,
        "version": "1",
    }


def test_every_value_has_its_line_and_what_is_missing_the_one_around_it() -> None:
    [document] = read(
        "name: x\nsteps:\n  - id: a\n    with:\n      text: |\n        one\n        two\n      to: [b, c]\n"
    )
    assert document.line(("name",)) == 1
    assert document.line(("steps", 0, "id")) == 3
    assert document.line(("steps", 0, "with", "text")) == 5
    assert document.line(("steps", 0, "with", "to", 1)) == 8
    assert document.line(("steps", 0, "action")) == 3
    assert document.line(("timeout",)) == 1


def test_a_stream_has_several_documents_and_empty_ones_do_not_count() -> None:
    assert [document.data for document in read("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n")] == [{"a": 1}, {"b": 2}]


def test_json_is_yaml() -> None:
    [document] = read('{"name": "x", "steps": [{"if": true, "n": 1.0}]}')
    assert document.data == {"name": "x", "steps": [{"if": True, "n": 1.0}]}


def test_an_alias_stands_for_what_it_names() -> None:
    [document] = read("a: &retry {attempts: 3}\nb: *retry\n")
    assert document.data == {"a": {"attempts": 3}, "b": {"attempts": 3}}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "a: 1\nb: 2\na: 3\nb: 4\n",
            [(3, 'the key "a" stands here twice; the first is on line 1'), (4, 'the key "b"')],
        ),
        ("a: !!python/object:os.system x", [(1, "the tag tag:yaml.org,2002:python/object:os.system is not known")]),
        ("a: 1\nb: !secret x", [(2, "the tag !secret is not known; write the value without it")]),
        ("a: b: c", [(1, "not YAML: mapping values are not allowed in this context")]),
        ("a: [1, 2\nb: 3", [(2, "not YAML: did not find expected ',' or ']'")]),
        ("a: 1\n\tb: 2", [(2, "not YAML: ")]),
        ("a: *b", [(1, "the alias *b stands for nothing that was written before it")]),
        ("a: &a [*a]", [(1, "the alias *a stands for nothing that was written before it")]),
        ("? [a, b]\n: c", [(1, "a key must be plain text")]),
        ("n: 1e999", [(1, "a number too large; write it in quotes to keep it as text")]),
        (f"n: {'9' * 5000}", [(1, "a number too large")]),
        ('a: "\\0"', [(1, "the character NUL, which PostgreSQL cannot keep")]),
        ("a: 1\nb: \ud800", [(2, "not Unicode text: half a surrogate pair")]),
        ('a: "\\ud800"', [(1, "not YAML: found invalid Unicode character escape code")]),
        ("\x01", [(1, "not YAML: unacceptable character")]),
        ("[" * 100_000, [(1, "nested more than 50 levels deep")]),
        ("- " * 100_000, [(1, "nested more than 50 levels deep")]),
        ("{a: " * 50_000, [(1, "nested more than 50 levels deep")]),
        (BOMB, [(5, "more than 50000 values")]),
        ("a" * (256 * 1024 + 1), [(1, "larger than 256 KiB")]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, problems: list[tuple[int, str]]) -> None:
    with pytest.raises(DocumentError) as error:
        read(text)
    assert len(error.value.problems) == len(problems)
    for (line, message), (expected_line, expected) in zip(error.value.problems, problems, strict=True):
        assert (line, message[: len(expected)]) == (expected_line, expected)
