"""Runs coroutines: many at once, as many as help, and one to its end for code that does not await."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

Item = TypeVar("Item")
T = TypeVar("T")

LOOK = 0.1  # seconds between looks whether the caller was cancelled


async def together(
    items: Iterable[Item], work: Callable[[Item], Coroutine[Any, Any, object]], size: Callable[[], int]
) -> None:
    """Run `work(item)` for each item, begun in their order, at most `size()` at once.

    `size` is asked again before each item, and the next item is taken from `items` only when it can begin. An error of
    one cancels the others and leaves in an ExceptionGroup, as from an asyncio.TaskGroup; to be cancelled cancels all.
    """
    running: set[asyncio.Task[object]] = set()
    ended = asyncio.Event()

    def end(task: asyncio.Task[object]) -> None:
        running.discard(task)
        ended.set()

    async with asyncio.TaskGroup() as group:
        for item in items:
            task = group.create_task(work(item))
            running.add(task)
            task.add_done_callback(end)
            while len(running) >= max(1, size()):
                ended.clear()
                await ended.wait()


def waited(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives, whether or not an event loop runs in this thread: if one does, by a loop of another thread.

    An interrupt, or the cancellation of the task that waits here, cancels the coroutine and waits for its end.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return _elsewhere(coroutine, asyncio.current_task())


def _elsewhere(coroutine: Coroutine[Any, Any, T], caller: "asyncio.Task[Any] | None") -> T:
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
    given: Future[T] = Future()

    async def ended() -> T:
        return await task

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                result = runner.run(ended())
            given.set_result(result)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            given.set_exception(error)

    thread = threading.Thread(target=run, name="assay")
    thread.start()
    try:
        while not given.done():
            with suppress(TimeoutError):
                given.exception(LOOK)
            _stop_if_cancelled(caller)
        return given.result()
    except BaseException:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()


def _stop_if_cancelled(task: "asyncio.Task[Any] | None") -> None:
    """CancelledError if somebody wants the task's end; its own loop cannot say so while we hold it."""
    if task and task.cancelling():
        raise asyncio.CancelledError
