"""Many run at once, as many as help; and plain code may wait for a coroutine wherever it is called from."""

import asyncio
import contextvars
import signal
import subprocess
import sys
import threading

import pytest

from assay.land import pace
from assay.land.running import together, waited


def test_as_many_run_as_the_size_says_at_each_moment_and_items_are_taken_late():
    allowed, running, most, taken = [1], set(), [], []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    async def work(number):
        running.add(number)
        most.append((allowed[0], len(running)))
        assert len(taken) <= number + 1 + 8
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.discard(number)
        if number == 10:
            allowed[0] = 8
        if number == 30:
            allowed[0] = 2

    asyncio.run(together(items(), work, lambda: allowed[0]))
    assert taken == list(range(40))
    assert {there for said, there in most if said == 1} == {1}
    assert max(there for _, there in most) == 8
    assert most[-1] == (2, 2) or most[-1] == (2, 1)


def test_begun_in_order_and_a_size_of_nothing_is_one():
    begun = []

    async def work(number):
        begun.append(number)
        await asyncio.sleep(0)

    asyncio.run(together(range(20), work, lambda: 0))
    assert begun == list(range(20))
    asyncio.run(together([], work, lambda: 3))


@pytest.mark.parametrize("late", [False, True])
def test_an_error_of_one_cancels_the_others_and_takes_no_more(late):
    taken, cancelled = [], []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    async def work(number):
        try:
            await asyncio.sleep(0 if number == 2 else 60)
            raise KeyError("odd")
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(together(items() if late else [0, 1, 2], work, lambda: 3 if late else 9))
    assert [str(one) for one in caught.value.exceptions] == ["'odd'"]
    assert (taken, sorted(cancelled)) == ([0, 1, 2] if late else [], [0, 1])


def test_an_error_of_the_items_or_the_end_of_patience_cancels_what_runs():
    ended = []

    def items():
        yield 1
        raise ValueError("no more")

    async def work(number):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(number)

    async def patient():
        async with asyncio.timeout(0.05):
            await together([2, 3], work, lambda: 1)

    async def broken():
        async with asyncio.timeout(50):
            async with asyncio.TaskGroup() as group:
                group.create_task(together(items(), work, lambda: 2))

    with pytest.raises(TimeoutError):
        asyncio.run(patient())
    assert ended == [2]
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(broken())
    assert caught.group_contains(ValueError, match="no more")


def test_what_says_no_size_is_asked_by_four():
    assert pace.size(object()) == pace.size(None) == 4


async def doubled(number):
    await asyncio.sleep(0)
    return 2 * number, threading.current_thread()


async def failing():
    await asyncio.sleep(0)
    raise TimeoutError("its own")


def test_a_result_and_an_error_come_through_without_a_loop():
    assert waited(doubled(2)) == (4, threading.current_thread())
    with pytest.raises(TimeoutError, match="its own"):
        waited(failing())


def test_a_result_and_an_error_come_through_below_a_running_loop():
    said = contextvars.ContextVar("said")

    async def heard():
        return said.get()

    async def outer():
        there = set(threading.enumerate())
        number, thread = waited(doubled(3))
        assert (number, thread is threading.current_thread()) == (6, False)
        with pytest.raises(TimeoutError, match="its own"):
            waited(failing())
        said.set("the caller's context")
        assert waited(heard()) == "the caller's context"
        assert set(threading.enumerate()) == there
        await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    asyncio.run(outer())


def test_who_is_cancelled_while_it_waits_cancels_what_it_waits_for():
    ended = []

    async def inner(task, loop):
        loop.call_soon_threadsafe(lambda: None)
        task.cancel()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def outer():
        waited(inner(asyncio.current_task(), asyncio.get_running_loop()))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(outer())
    assert ended == [True]


INTERRUPTED = """
import asyncio, sys
from assay.land.running import together, waited
async def inner(_=None):
    print("begun", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("ended", flush=True)
async def outer():
    waited(inner())
async def many():
    await together([1, 2], inner, lambda: 1)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("call", ["waited(inner())", "asyncio.run(outer())", "waited(many())"])
def test_an_interrupt_ends_the_coroutine_first(call):
    program = [sys.executable, "-c", INTERRUPTED.replace("{call}", call)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=50)
    assert (out, err) == ("ended\ninterrupted\n", "")
