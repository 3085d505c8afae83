"""Templates: what is refused when saved, what fails when rendered, and what neither may cost."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.rendering import (
    LONGEST_SUBJECT,
    RenderError,
    check_template,
    missing_variables,
    render,
    render_message,
)

CONTEXT = {"event": {"data": {"name": "Ada", "tags": ["a", "b"], "html": "<b>&</b>", "nothing": None, "yes": True}}}


def text(source: str, context: Any = CONTEXT) -> str:
    return render("t", {"text": source}, {"text"}, context).get("text", "")


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("Hello {{ event.data.name }}", "Hello Ada"),
        ("{{ event.data.nick | default: 'no name' }}", "no name"),
        ("{{ event.data.a.b.c | default: '-' }}", "-"),
        ("{% if event.data.nick %}yes{% else %}no{% endif %}", "no"),
        ("{% if event.data.nick == 'x' %}yes{% else %}no{% endif %}", "no"),
        ("{% if event.data.nick == nil %}none{% endif %}", "none"),
        ("{% for tag in event.data.tags %}{{ tag }};{% endfor %}", "a;b;"),
        ("{{ event.data.tags | json }} {{ event.data.nothing }}{{ event.data.yes }}", '["a", "b"] true'),
        ("{{ event.data.html }}", "<b>&</b>"),
    ],
)
def test_a_template_says_what_it_should(source: str, rendered: str) -> None:
    assert text(source) == rendered


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("line\n{{ event.data.nick }}", "template t, text, line 2: event.data.nick is undefined"),
        ("{{ evnt.data.name }}", "template t, text, line 1: 'evnt' is undefined"),
        ("{{ event.data.nick | upcase }}", "template t, text, line 1: event.data.nick is undefined"),
        (
            "{% for x in event.data.nicks %}{{ x }}{% endfor %}",
            "template t, text, line 1: event.data.nicks is undefined",
        ),
        ("{{ 1 | divided_by: 0 }}", "template t, text, line 1: divided_by: can't divide by 0"),
        ("{{ event.__class__ }}", "template t, text, line 1: event.__class__ is undefined"),
    ],
)
def test_a_mistake_names_the_template_the_part_and_the_line(source: str, message: str) -> None:
    with pytest.raises(RenderError) as error:
        text(source)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "source",
    [
        "{{ (1..1000000000) | join }}",
        "{% assign r = (1..1000000000) %}{{ r | size }}",
        "{% for i in (1..1000000000) reversed %}x{% break %}{% endfor %}",
        "{% for i in (1..9000) %}{% for j in (1..9000) %}x{% endfor %}{% endfor %}",
        "{% assign a = 10 %}{% for i in (1..60) %}{% assign a = a | times: a %}{% endfor %}",
        "{{ 'a' " + "| replace: 'a','aaaaaaaaaaaaaaaaaaaa'" * 9 + "}}",
        "{% assign a = 'xxxxxxxxxx' %}{% for i in (1..60) %}{% assign a = a | append: a %}{% endfor %}",
        "{% for i in (1..5000) %}" + "x" * 100 + "{% endfor %}",
        "{% capture a %}{% for i in (1..9999) %}" + "x" * 100 + "{% endfor %}{% endcapture %}",
    ],
)
def test_a_template_cannot_eat_the_machine(source: str) -> None:
    began = time.process_time()
    with pytest.raises(RenderError):
        text(source)
    assert time.process_time() - began < 1


def test_html_escapes_values_and_text_does_not() -> None:
    sources = {"text": "{{ event.data.html }}", "html": "<p>{{ event.data.html }}{{ event.data.html | upcase }}</p>"}
    assert render("t", sources, {"text", "html"}, CONTEXT) == {
        "text": "<b>&</b>",
        "html": "<p>&lt;b&gt;&amp;&lt;/b&gt;&lt;B&gt;&amp;&lt;/B&gt;</p>",
    }


@given(st.text())
def test_a_subject_is_one_line_whatever_the_values(value: str) -> None:
    subject = render("t", {"subject": "{{ v }}!"}, {"subject"}, {"v": value})["subject"]
    assert "\n" not in subject
    assert "\r" not in subject
    assert len(subject) <= LONGEST_SUBJECT


@given(st.text())
def test_no_value_breaks_out_of_html(value: str) -> None:
    html = render("t", {"html": "<i>{{ v }}</i>"}, {"html"}, {"v": value})["html"]
    assert not set(html.removeprefix("<i>").removesuffix("</i>")) & set("<>\"'")


def test_only_the_parts_that_are_asked_for_are_rendered() -> None:
    assert render("t", {"subject": "{{ missing }}", "text": "x"}, {"text"}, {}) == {"text": "x"}


def test_a_template_is_checked_whole_when_it_is_saved() -> None:
    problems = check_template(
        subject="{{ a",
        text="fine\n{{ a | shout }}",
        html="{% foo %}",
        languages={"de": {"subject": "{% endif %}", "title": "x"}, "fr": "bonjour", "it": {"text": 3}},
    )
    assert [path for path, _ in problems] == [
        "subject",
        "text",
        "html",
        "languages.de.title",
        "languages.de.subject",
        "languages.fr",
        "languages.it.text",
    ]
    messages = dict(problems)
    assert messages["text"].startswith('line 2: unknown filter "shout"')
    assert messages["html"] == "line 1: unexpected tag 'foo'"
    assert messages["languages.de.title"] == "unknown part; known: subject, text, html"


def test_a_good_template_has_no_problems_and_an_empty_one_has() -> None:
    assert check_template(subject="Hi {{ x }}", text="", html="", languages={"de": {"subject": "Hallo"}}) == []
    assert [path for path, _ in check_template(subject="", text=" ", html="", languages={})] == ["text"]


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("{{ event.data.name }}{{ event.data.tags[0] }}{{ event.data.tags.size }}{{ event.data.tags.first }}", []),
        (
            "{{ event.data.nick }}\n{% if evnt %}x{% endif %}{{ event.data.nick }}",
            [("event.data.nick", 1), ("evnt", 2)],
        ),
        ("{{ event.data.nick | default: '-' }}", [("event.data.nick", 1)]),
        ("{% for tag in event.data.tags %}{{ tag }}{{ forloop.index }}{% endfor %}", []),
        ("{% assign x = 1 %}{{ x }}{{ event.data[x] }}{{ event.data['name'] }}", []),
        ("{{ event.data.tags[7] }}{{ event.data.name.first }}{{ event.data.yes.no }}", ["tags[7]", "yes.no"]),
        ("{{ event.", []),
        ("", []),
    ],
)
def test_what_a_template_reads_and_is_not_there_is_named_with_its_line(source: str, missing: Any) -> None:
    found = missing_variables(source, CONTEXT, html=False)
    if missing and isinstance(missing[0], str):
        assert [name.removeprefix("event.data.") for name, _ in found] == missing
    else:
        assert found == missing


def test_a_message_without_text_gets_the_words_of_its_html() -> None:
    sources = {"subject": "Hi", "text": "", "html": "<p>{{ event.data.name }}<br>&amp; co</p>"}
    assert render_message("t", sources, {"subject", "text"}, CONTEXT) == {"subject": "Hi", "text": "Ada&amp; co"}
    assert render_message("t", {**sources, "text": "x"}, {"text", "html"}, CONTEXT)["text"] == "x"


def test_an_error_has_its_part_and_its_reason_apart() -> None:
    with pytest.raises(RenderError) as error:
        render("t", {"html": "\n{{ x }}"}, {"html"}, {})
    assert (error.value.part, error.value.reason) == ("html", "line 2: 'x' is undefined")
