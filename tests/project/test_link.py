"""A link is one connection for many, and another one when it broke."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from project import link
from project.link import Link, LinkBroken


class Line:
    def __init__(self, lost: Callable[[], None]) -> None:
        self.lost, self.well, self.ended = lost, True, asyncio.Event()

    @property
    def closed(self) -> bool:
        return self.ended.is_set()


class Lines(Link[Line]):
    def __init__(self) -> None:
        super().__init__()
        self.made: list[Line] = []
        self.fails = 0
        self.takes = 0.01

    async def connect(self, lost: Callable[[], None]) -> Line:
        await asyncio.sleep(self.takes)
        if self.fails:
            self.fails -= 1
            raise OSError("nobody there")
        self.made.append(Line(lost))
        return self.made[-1]

    async def disconnect(self, connection: Line) -> None:
        connection.ended.set()

    def serves(self, connection: Line) -> bool:
        return connection.well


async def number(line: Line) -> int:
    await asyncio.sleep(0)
    return id(line)


async def for_ever(line: Line) -> int:
    await asyncio.sleep(60)
    return 0


def run(test: Callable[[Lines], object]) -> None:
    async def main() -> None:
        lines = Lines()
        async with asyncio.timeout(5):
            await test(lines)  # type: ignore[misc]
            await lines.close()
        assert all(line.closed for line in lines.made)

    asyncio.run(main())


def test_many_share_one_connection_and_it_is_closed_at_the_end() -> None:
    async def test(lines: Lines) -> None:
        assert len(set(await asyncio.gather(*(lines.use(number) for _ in range(20))))) == 1
        assert len(lines.made) == 1

    run(test)


def test_who_cannot_connect_is_told_and_the_next_one_tries_again() -> None:
    async def test(lines: Lines) -> None:
        lines.fails = 1
        told = await asyncio.gather(*(lines.use(number) for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in told] == ["nobody there"] * 3
        await lines.use(number)

    run(test)


def test_one_that_no_longer_serves_is_made_anew() -> None:
    async def test(lines: Lines) -> None:
        first = await lines.use(number)
        lines.made[0].well = False
        assert await lines.use(number) != first
        await lines.made[0].ended.wait()

    run(test)


def test_who_waits_on_a_connection_that_is_lost_hears_of_it() -> None:
    async def test(lines: Lines) -> None:
        waiting = asyncio.ensure_future(lines.use(for_ever))
        await lines.use(number)
        lines.made[0].lost()
        with pytest.raises(LinkBroken):
            await waiting
        await lines.use(number)
        assert len(lines.made) == 2

    run(test)


def test_who_gives_up_while_it_is_opened_disturbs_nobody() -> None:
    async def test(lines: Lines) -> None:
        first, second = (asyncio.ensure_future(lines.use(number)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert len(lines.made) == 1
        assert first.cancelled()

    run(test)


def test_one_that_nobody_uses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "IDLE", 0.05)

    async def test(lines: Lines) -> None:
        await lines.use(number)
        assert not lines.made[0].closed
        await lines.made[0].ended.wait()
        await lines.use(number)

    run(test)


def test_what_a_client_cancels_is_a_lost_connection_and_not_our_own_end() -> None:
    async def cancelled(line: Line) -> int:
        raise asyncio.CancelledError

    async def test(lines: Lines) -> None:
        with pytest.raises(LinkBroken):
            await lines.use(cancelled)

    run(test)
