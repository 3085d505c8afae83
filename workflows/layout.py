"""From steps, and what each waits for, to places on a sheet: layer below layer, with few crossings. Pure."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Final, NamedTuple, TypeAlias

WIDTH: Final = 224
GAP: Final = 28  # between neighbours
FALL: Final = 36  # between a layer and the next
WAY: Final = 12  # the width of an edge that passes a layer
SWEEPS: Final = 6
MOST_WAYS: Final = 2000  # edges that pass layers are led around the boxes up to this many times

Edge: TypeAlias = tuple[str, str]
Place: TypeAlias = str | tuple[str, str, int]
"""A step, or where the edge between two steps passes a layer."""
Layers: TypeAlias = list[list[Place]]
Joined: TypeAlias = Mapping[Place, Sequence[Place]]


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Box:
    """A step's place: its upper left corner, and how big it is."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is.

    An edge begins at the bottom of a box and ends at the top of another; its points lie by turns at the end of a fall
    and at the end of a layer that it passes straight down.
    """

    boxes: Mapping[str, Box]
    edges: Mapping[Edge, Sequence[Point]]
    width: int
    height: int


def lay_out(needs: Mapping[str, Sequence[str]], heights: Mapping[str, int]) -> Layout:
    """A place for each step, below all that it needs, in as few layers as can be.

    `needs` names only its own steps, and has no circle. What a step needs of what it needs anyway gets no edge. The
    method is Sugiyama's: layers by the longest way, an order in each by barycenters, then places near to what a step is
    joined with.

    >>> layout = lay_out({"a": [], "b": ["a"], "c": ["a", "b"]}, {"a": 40, "b": 40, "c": 60})
    >>> [(id_, box.x, box.y) for id_, box in layout.boxes.items()], layout.height, [*layout.edges]
    ([('a', 0, 0), ('b', 0, 76), ('c', 0, 152)], 212, [('a', 'b'), ('b', 'c')])
    """
    depths = _depths(needs)
    edges = list(_direct(needs))
    ways = {(above, below): list(range(depths[above] + 1, depths[below])) for above, below in edges}
    if sum(map(len, ways.values())) > MOST_WAYS:
        ways = {edge: [] for edge in edges}
    layers, chains = _layers(needs, depths, ways)
    up, down = _joined(chains)
    layers = _ordered(layers, up, down)
    middles = _middles(layers, up, down)
    return _measured(layers, middles, chains, heights)


def _depths(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    depths: dict[str, int] = {}
    for id_ in TopologicalSorter(needs).static_order():
        depths[id_] = max((depths[above] + 1 for above in needs[id_]), default=0)
    return depths


def _direct(needs: Mapping[str, Sequence[str]]) -> Iterator[Edge]:
    """The edges, without those that longer ways imply."""
    before: dict[str, set[str]] = {}
    for id_ in TopologicalSorter(needs).static_order():
        before[id_] = {far for near in needs[id_] for far in (near, *before[near])}
    for id_, above_ones in needs.items():
        implied = {far for near in above_ones for far in before[near]}
        for above in dict.fromkeys(above_ones):
            if above not in implied:
                yield above, id_


def _layers(
    ids: Iterable[str], depths: Mapping[str, int], ways: Mapping[Edge, Sequence[int]]
) -> tuple[Layers, dict[Edge, list[Place]]]:
    """What each layer holds, steps in the order they are written; and each edge as the places it joins."""
    layers: Layers = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for id_ in ids:
        layers[depths[id_]].append(id_)
    chains: dict[Edge, list[Place]] = {}
    for (above, below), passed in ways.items():
        places: list[Place] = [(above, below, at) for at in passed]
        for at, place in zip(passed, places, strict=True):
            layers[at].append(place)
        chains[above, below] = [above, *places, below]
    return layers, chains


def _joined(chains: Mapping[Edge, Sequence[Place]]) -> tuple[Joined, Joined]:
    up, down = defaultdict[Place, list[Place]](list), defaultdict[Place, list[Place]](list)
    for chain in chains.values():
        for above, below in pairwise(chain):
            up[below].append(above)
            down[above].append(below)
    return up, down


def _ordered(layers: Layers, up: Joined, down: Joined) -> Layers:
    """The layers, each in the order of its neighbours' means; the best of some sweeps down and up."""
    best, least = layers, _crossings(layers, down)
    for _ in range(SWEEPS):
        if not least:
            break
        for joined, turn in ((up, list(layers)), (down, list(reversed(layers)))):
            for fixed, free in pairwise(turn):
                _sort(free, joined, {place: at for at, place in enumerate(fixed)})
        if (crossings := _crossings(layers, down)) < least:
            best, least = [list(layer) for layer in layers], crossings
    return best


def _sort(layer: list[Place], joined: Joined, at: Mapping[Place, int]) -> None:
    means = {
        place: fmean(known) if (known := [at[other] for other in joined.get(place, ()) if other in at]) else own
        for own, place in enumerate(layer)
    }
    layer.sort(key=means.__getitem__)


def _crossings(layers: Layers, down: Joined) -> int:
    """How often edges cross: pairs of edges whose ends are in the opposite order of their beginnings."""
    crossings = 0
    for upper, lower in pairwise(layers):
        at = {place: index for index, place in enumerate(lower)}
        passed: list[int] = []
        for place in upper:
            ends = sorted(at[other] for other in down.get(place, ()) if other in at)
            crossings += sum(len(passed) - bisect_right(passed, end) for end in ends)
            for end in ends:
                insort(passed, end)
    return crossings


def _width(place: Place) -> int:
    return WIDTH if isinstance(place, str) else WAY


def _middles(layers: Layers, up: Joined, down: Joined) -> dict[Place, float]:
    """Where the middle of each place is: under and over what it is joined with, as far as its neighbours let it."""
    middles: dict[Place, float] = {}
    gaps = [[(_width(left) + _width(right)) / 2 + GAP for left, right in pairwise(layer)] for layer in layers]
    for layer, between in zip(layers, gaps, strict=True):
        starts = list(accumulate(between, initial=0.0))
        middles |= {place: at - starts[-1] / 2 for place, at in zip(layer, starts, strict=True)}
    both = {place: [*up.get(place, ()), *down.get(place, ())] for layer in layers for place in layer}
    turns = list(zip(layers, gaps, strict=True))
    for joined, order in [(up, turns), (down, turns[::-1])] * SWEEPS + [(both, turns)] * 2:
        for layer, between in order:
            wanted = [
                fmean(middles[other] for other in joined[place]) if joined.get(place) else middles[place]
                for place in layer
            ]
            middles |= zip(layer, _apart(wanted, between), strict=True)
    return middles


def _apart(wanted: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The places nearest to the wanted ones (by least squares) that are so far apart.

    >>> _apart([0, 1, 9], [4, 4]), _apart([5, 5, 5], [2, 2])
    ([-1.5, 2.5, 9.0], [3.0, 5.0, 7.0])
    """
    shifts = list(accumulate(gaps, initial=0.0))
    blocks: list[tuple[float, int]] = []  # neighbours that touch: the sum of where they want to begin, how many
    for want, shift in zip(wanted, shifts, strict=False):
        total, count = want - shift, 1
        while blocks and blocks[-1][0] * count > total * blocks[-1][1]:
            before, others = blocks.pop()
            total, count = total + before, count + others
        blocks.append((total, count))
    starts = [total / count for total, count in blocks for _ in range(count)]
    return [start + shift for start, shift in zip(starts, shifts, strict=False)]


def _measured(
    layers: Layers,
    middles: Mapping[Place, float],
    chains: Mapping[Edge, Sequence[Place]],
    heights: Mapping[str, int],
) -> Layout:
    """The places in whole pixels, from the upper left corner on."""
    left = min((at - _width(place) / 2 for place, at in middles.items()), default=0.0)
    right = max((at + _width(place) / 2 for place, at in middles.items()), default=0.0)
    tall = [max((heights[place] for place in layer if isinstance(place, str)), default=0) for layer in layers]
    tops = list(accumulate((height + FALL for height in tall), initial=0))
    boxes = {}
    spans: dict[Place, tuple[Point, Point]] = {}  # where edges come in, and where they leave the layer
    for layer, top, height in zip(layers, tops, tall, strict=False):
        for place in layer:
            x = round(middles[place] - left)
            spans[place] = Point(x, top), Point(x, top + height)
            if isinstance(place, str):
                boxes[place] = Box(x - WIDTH // 2, top, WIDTH, heights[place])
    edges = {
        (above, below): [
            Point(spans[above][0].x, boxes[above].y + boxes[above].height),
            spans[above][1],
            *(point for place in chain[1:-1] for point in spans[place]),
            spans[below][0],
        ]
        for (above, below), chain in chains.items()
    }
    return Layout(boxes, edges, round(right - left), max(tops[-1] - FALL, 0))
