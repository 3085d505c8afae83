"""What changed between two texts, as people read it."""

from __future__ import annotations

import re

import pytest

from project.difference import Line, difference
from project.templatetags.facts import coloured_lines

OLD = "name: w\ndescription: a\nsteps:\n" + "".join(f"  - {{id: s{at}}}\n" for at in range(20))


def plain(line: Line) -> str:
    return re.sub(r"<[^>]*>", "", str(line.shown))


def test_lines_that_changed_stand_with_some_around_them_and_gaps_between() -> None:
    new = OLD.replace("{id: s3}", "{id: other}").replace("  - {id: s15}\n", "")
    told = [(line.kind, line.old, line.new, plain(line) or line.left_out) for line in difference(OLD, new, "yaml")]
    assert told == [
        ("gap", None, None, 3),
        ("same", 4, 4, "  - {id: s0}"),
        ("same", 5, 5, "  - {id: s1}"),
        ("same", 6, 6, "  - {id: s2}"),
        ("removed", 7, None, "  - {id: s3}"),
        ("added", None, 7, "  - {id: other}"),
        ("same", 8, 8, "  - {id: s4}"),
        ("same", 9, 9, "  - {id: s5}"),
        ("same", 10, 10, "  - {id: s6}"),
        ("gap", None, None, 5),
        ("same", 16, 16, "  - {id: s12}"),
        ("same", 17, 17, "  - {id: s13}"),
        ("same", 18, 18, "  - {id: s14}"),
        ("removed", 19, None, "  - {id: s15}"),
        ("same", 20, 19, "  - {id: s16}"),
        ("same", 21, 20, "  - {id: s17}"),
        ("same", 22, 21, "  - {id: s18}"),
        ("gap", None, None, 1),
    ]


def test_the_same_text_has_no_difference() -> None:
    assert difference(OLD, OLD, "yaml") == []


@pytest.mark.parametrize(
    "text",
    [
        OLD,
        "",
        "\n\na: |\n  <b>one</b>\n  two\n\n",
        "a: 1\r\nb: 'x\n  y'\n",
        "a: 1\x0cb\x85c\u2028d\n# end",
        "\t: x\n- &a *a",
    ],
)
def test_every_line_is_coloured_by_itself_and_says_the_same(text: str) -> None:
    lines = coloured_lines(text, "yaml")
    assert len(lines) == len(text.splitlines())
    for line, was in zip(lines, text.splitlines(), strict=True):
        assert line.count("<span") == line.count("</span>")
        said = re.sub(r"<[^>]*>", "", line).replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'")
        assert said.replace("&amp;", "&") == was
