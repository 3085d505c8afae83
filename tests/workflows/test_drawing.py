"""A workflow's graph: every step has its place, below what it needs, and says what it is and how it stands."""

from __future__ import annotations

import doctest
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest

from workflows import drawing, layout
from workflows.definition import Definition
from workflows.drawing import draw
from workflows.layout import Box, lay_out

SVG = "{http://www.w3.org/2000/svg}"


def definition(*steps: dict[str, object], **rest: object) -> Definition:
    return Definition.model_validate(
        {"name": "trip", "steps": [{"action": "transform", **step} for step in steps], **rest}
    )


def nodes(drawn: str) -> dict[str, ET.Element]:
    return {node.attrib["data-step"]: node for node in ET.fromstring(drawn).iter(f"{SVG}a")}


def words(element: ET.Element) -> str:
    return " ".join(text.text or "" for text in element.iter(f"{SVG}text"))


def overlap(one: Box, other: Box) -> bool:
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    return not (beside or one.y + one.height <= other.y or other.y + other.height <= one.y)


@pytest.mark.parametrize("module", [drawing, layout], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def test_every_step_is_a_link_that_says_what_it_is_and_how_it_stands() -> None:
    drawn = draw(
        definition({"id": "book", "undo": {"action": "fail"}}, {"id": "pay", "if": "event.data.amount > 1"}),
        {"book": "succeeded", "book.undo": "failed", "pay": "failed"},
        {"pay": "12 ms"},
    )
    book, pay = nodes(drawn)["book"], nodes(drawn)["pay"]
    assert book.attrib["href"] == "#step-book"
    assert (book.attrib["data-state"], pay.attrib["data-state"]) == ("succeeded", "failed")
    assert words(book) == "book transform succeeded undo fail failed"
    assert pay.attrib["aria-label"] == "pay, transform, failed, 12 ms, if event.data.amount > 1"


def test_without_states_nothing_is_coloured() -> None:
    drawn = draw(definition({"id": "a"}, {"id": "b"}))
    assert {node.attrib["data-state"] for node in nodes(drawn).values()} == {""}
    assert "data-done" not in drawn


def test_steps_of_on_failure_stand_below_the_others_under_a_line_of_their_own() -> None:
    drawn = draw(definition({"id": "a"}, {"id": "b"}, on_failure=[{"id": "tell", "action": "fail"}]))
    assert "when it has failed" in drawn
    assert list(nodes(drawn)) == ["a", "b", "tell"]
    assert drawn.count('class="graph-edge"') == 1


def test_what_a_definition_says_cannot_break_out_of_the_picture() -> None:
    drawn = draw(definition({"id": "a", "if": 'event.id == "</text><script>alert(1)</script>"'}))
    assert "<script" not in drawn
    assert "</text><script>" in nodes(drawn)["a"].attrib["aria-label"]


def test_long_names_are_cut_to_the_box_and_told_in_full_to_who_cannot_see() -> None:
    name = "a" * 100
    node = nodes(draw(definition({"id": name}), times={name: "1 h 12 min"}))[name]
    assert max(len(line) for line in words(node).split()) < 26
    assert name in node.attrib["aria-label"]


def test_a_step_stands_below_all_that_it_needs_and_no_two_overlap() -> None:
    needs = {f"s{at}": [f"s{before}" for before in range(at) if (at * 7 + before * 13) % 6 == 0] for at in range(40)}
    found = lay_out(needs, {id_: 54 + 18 * (at % 3) for at, id_ in enumerate(needs)})
    for id_, before in needs.items():
        assert all(found.boxes[one].y + found.boxes[one].height < found.boxes[id_].y for one in before)
    assert not any(overlap(*pair) for pair in combinations(found.boxes.values(), 2))
    assert all(box.x >= 0 and box.x + box.width <= found.width for box in found.boxes.values())
    assert all(box.y + box.height <= found.height for box in found.boxes.values())


def test_edges_go_around_the_boxes_of_the_layers_they_pass() -> None:
    found = lay_out(
        {"a": [], "b": ["a"], "c": ["b"], "far": [], "d": ["c", "far"]}, dict.fromkeys("abcd", 54) | {"far": 54}
    )
    line = found.edges["far", "d"]
    for box in (found.boxes["b"], found.boxes["c"]):
        assert not any(box.x < x < box.x + box.width and box.y <= y <= box.y + box.height for x, y in line)


def test_a_graph_that_can_be_drawn_without_crossings_is() -> None:
    found = lay_out(
        {"top": [], "a": ["top"], "b": ["top"], "under_b": ["b"], "under_a": ["a"], "end": ["under_a", "under_b"]},
        dict.fromkeys(("top", "a", "b", "under_a", "under_b", "end"), 54),
    )
    assert (found.boxes["a"].x < found.boxes["b"].x) == (found.boxes["under_a"].x < found.boxes["under_b"].x)
    assert found.boxes["top"].x == found.boxes["end"].x


def test_what_longer_ways_imply_is_not_drawn() -> None:
    ids = [f"s{at}" for at in range(200)]
    found = lay_out({id_: ids[:at] for at, id_ in enumerate(ids)}, dict.fromkeys(ids, 54))
    assert len(found.edges) == 199  # the others are implied
