"""Brokers, started once for all tests that publish to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.notifications.channels.far_sides import SIDES, FarSide


class FarSides:
    """Each is started when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, FarSide] = {}

    def __getitem__(self, kind: str) -> FarSide:
        if kind not in self._running:
            side = SIDES[kind]
            if side.beside:
                other = self[side.beside]
                self._running[kind] = side(other.port, other.proxy)
            else:
                self._running[kind] = self._stack.enter_context(side.running())
        return self._running[kind]


@pytest.fixture(scope="session")
def far_sides() -> Iterator[FarSides]:
    with ExitStack() as stack:
        yield FarSides(stack)
