"""What the benchmark makes of its figures."""

from __future__ import annotations

import argparse
import doctest
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import __main__ as command
from benchmarks import findings, targets
from benchmarks.bench import FULL, QUICK
from benchmarks.findings import cpu_cells, percentile, write_section
from benchmarks.machine import USUAL, Speed
from benchmarks.measures import MEASURES
from benchmarks.targets import TARGETS, verdicts


@pytest.mark.parametrize("module", [findings, targets, command])
def test_the_examples_in_docstrings_hold(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0


def test_a_percentile_is_one_of_the_values() -> None:
    hundred = [float(value) for value in range(1, 101)]
    assert percentile(hundred, 50) == 50
    assert percentile(hundred, 99) == 99
    assert percentile(hundred, 100) == 100
    assert percentile([7.0], 99) == 7.0


def test_a_process_that_a_system_does_not_have_gets_an_empty_cell() -> None:
    cells = cpu_cells({"web": 1.0, "worker": 2.25})
    assert cells[:3] == ["3.25", "1.00", "2.25"]
    assert set(cells[3:]) == {""}


def test_only_the_section_that_was_measured_is_written(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(
        "before\n<!-- bench: a -->\nold\n<!-- end -->\nbetween\n<!-- bench: b -->\nkept\n<!-- end -->\nafter\n"
    )
    write_section(document, "a", r"new \1")
    assert document.read_text() == (
        "before\n<!-- bench: a -->\n\nnew \\1\n\n<!-- end -->\nbetween\n<!-- bench: b -->\nkept\n<!-- end -->\nafter\n"
    )
    with pytest.raises(LookupError, match="bench: c"):
        write_section(document, "c", "lost")


def test_every_measurement_has_its_place_in_the_document(tmp_path: Path) -> None:
    copy = tmp_path / "performance.md"
    copy.write_text(command.DOCUMENT.read_text())
    for name in (*MEASURES, "targets"):
        write_section(copy, name, f"figures of {name}")
        assert f"figures of {name}" in copy.read_text()


def test_a_target_is_met_missed_or_not_measured() -> None:
    figures = {"single.cpu": 1.9, "batches.cpu": 0.7, "single.rate": 900.0}
    lines = verdicts(figures, dict.fromkeys(figures, USUAL)).splitlines()[2:]
    ends = [line.split("|")[-2].strip() for line in lines]
    assert ends[:2] == ["not met", "met"]
    assert ends[3] == "met"
    assert ends.count("not measured") == len(TARGETS) - 3


def test_figures_are_held_against_their_targets_at_the_usual_speed() -> None:
    figures = {"single.cpu": 2.4, "ratio": 4.0, "single.rate": 700.0, "latency.p99": 35.0, "memory.growth": 6.0}
    by_name = {target.figure: target for target in TARGETS}
    lines = verdicts(figures, dict.fromkeys(figures, USUAL * 1.5)).splitlines()[2:]
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[5:7]] for line in lines}
    assert cells[by_name["single.cpu"].says] == ["1.60", "met"]
    assert cells[by_name["single.rate"].says] == ["1,050", "met"]
    assert cells[by_name["latency.p99"].says] == ["23.33 ms", "met"]
    assert cells[by_name["ratio"].says] == ["4.00", "not met"]  # a slow machine is no excuse for these
    assert cells[by_name["memory.growth"].says] == ["6.00 %", "not met"]


def test_no_figure_is_excused_by_more_than_the_chain_was_slower() -> None:
    figures = {"single.cpu": 3.6, "latency.p50": 18.0, "chain.cpu": 27.6, "chain.p50": 25.8}
    lines = verdicts(figures, dict.fromkeys(figures, USUAL * 3)).splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[3:7]] for line in lines]
    assert ["3.60", "2.00", "1.80", "met"] in cells
    assert ["18.00 ms", "1.50", "12.00 ms", "not met"] in cells


def test_a_lap_tells_the_pieces_of_its_time() -> None:
    with Speed() as speed:
        first, second = speed.lap(), speed.lap()
    assert 0 < first < 10_000
    assert 0 < second < 10_000


def test_sizes_named_on_the_command_line_replace_those_of_the_set() -> None:
    nothing = dict.fromkeys(("events", "repeats", "seconds", "kept", "marks"))
    assert command.sizes_of(argparse.Namespace(quick=False, **nothing)) == FULL
    quick = command.sizes_of(argparse.Namespace(quick=True, **{**nothing, "events": 7, "marks": [1, 2]}))
    assert (quick.events, quick.marks, quick.seconds) == (7, (1, 2), QUICK.seconds)


def test_a_measurement_that_there_is_not_is_refused_with_the_known_names() -> None:
    with pytest.raises(SystemExit, match="latincy: no such measurement; known are: reference, limits, consume"):
        command.chosen(["latincy"])
