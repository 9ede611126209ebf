from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from miloco_edge.serve.refusal import Refusal
from miloco_edge.serve.turns import Turns


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


async def held(turns: Turns) -> tuple[asyncio.Task[None], asyncio.Event]:
    """One whose turn it is until the event is set."""
    done = asyncio.Event()

    async def hold() -> None:
        async with turns.turn(0, 10):
            await done.wait()

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    return task, done


def test_higher_priorities_first_and_equals_in_their_order() -> None:
    async def work() -> None:
        turns = Turns(1, 10)
        holder, done = await held(turns)
        order: list[str] = []

        async def ask(name: str, priority: int) -> None:
            async with turns.turn(priority, 10) as waited:
                assert waited > 0
                order.append(name)

        asks = [
            asyncio.create_task(ask(name, priority))
            for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1))
        ]
        await asyncio.sleep(0.01)
        assert turns.waiting == 5 and turns.active == 1
        done.set()
        await asyncio.gather(holder, *asks)
        assert order == ["b", "d", "a", "c", "e"]
        assert turns.waiting == turns.active == 0

    run(work())


@pytest.mark.parametrize("closing", [False, True])
def test_one_who_leaves_in_the_moment_of_being_sent_away_is_no_fault(closing: bool) -> None:
    async def work() -> None:
        turns = Turns(1, 1)
        holder, done = await held(turns)
        leaving, _ = await held(turns)
        turns._line[0].granted.cancel()  # as wait_for does first
        if closing:
            turns.close()
        else:
            coming = asyncio.create_task(turns._wait(1, 10))
            await asyncio.sleep(0)
            done.set()
            await coming
        done.set()
        await asyncio.gather(holder, leaving, return_exceptions=True)

    run(work())


def test_the_last_of_the_lowest_is_sent_away() -> None:
    async def work() -> None:
        turns = Turns(1, 2)
        holder, done = await held(turns)

        async def ask(priority: int) -> int:
            try:
                async with turns.turn(priority, 10):
                    return 200
            except Refusal as refusal:
                assert refusal.retry_after_s and refusal.retry_after_s > 0
                return refusal.status

        first = asyncio.create_task(ask(1))
        second = asyncio.create_task(ask(0))
        await asyncio.sleep(0.01)
        assert await ask(0) == 429
        third = asyncio.create_task(ask(2))
        await asyncio.sleep(0.01)
        assert await second == 429
        done.set()
        assert [await first, await third] == [200, 200]
        await holder

    run(work())


def test_who_waits_too_long_or_leaves_holds_up_nobody() -> None:
    async def work() -> None:
        turns = Turns(1, 10)
        holder, done = await held(turns)
        with pytest.raises(Refusal) as refused:
            async with turns.turn(0, 0.01):
                raise AssertionError("it was not its turn")
        assert refused.value.status == 503
        leaving = [asyncio.create_task(turns.turn(0, 10).__aenter__()) for _ in range(5)]
        await asyncio.sleep(0.01)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        assert turns.waiting == 0
        done.set()
        await holder
        async with turns.turn(0, 1):
            assert turns.active == 1
        assert turns.active == 0

    run(work())


def test_a_turn_granted_to_one_who_leaves_is_passed_on() -> None:
    async def work() -> None:
        turns = Turns(1, 10)
        holder, done = await held(turns)
        turn = turns.turn(0, 10)
        leaving = asyncio.create_task(turn.__aenter__())
        await asyncio.sleep(0.01)
        done.set()
        await holder  # the turn is granted in here
        leaving.cancel()
        outcome = (await asyncio.gather(leaving, return_exceptions=True))[0]
        if isinstance(outcome, BaseException):
            assert turns.active == 0
        else:
            assert turns.active == 1
            await turn.__aexit__(None, None, None)
            assert turns.active == 0

    run(work())


def test_closing_sends_away_who_waits_and_lets_the_others_end() -> None:
    async def work() -> None:
        turns = Turns(1, 10)
        holder, done = await held(turns)
        waiting = asyncio.create_task(turns.turn(0, 10).__aenter__())
        await asyncio.sleep(0.01)
        turns.close()
        for attempt in (waiting, turns.turn(0, 10).__aenter__()):
            with pytest.raises(Refusal) as refused:
                await attempt
            assert refused.value.status == 503
        done.set()
        await holder
        assert turns.active == 0

    run(work())
