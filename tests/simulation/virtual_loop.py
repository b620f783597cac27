"""An asyncio loop whose time passes only when nobody has anything to do now: what it runs depends on nothing else."""

import asyncio
import contextvars
import selectors
from collections.abc import Callable
from typing import Any, cast


class Stuck(Exception):
    """Nothing is scheduled any more, and what the caller waits for has not happened."""


class Life:
    """One run of one node, from a start to its end; what it has scheduled dies with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = contextvars.Context()
        self.context.run(LIFE.set, self)


LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("life", default=None)


class _Leap(selectors.SelectSelector):
    """Waits for nothing: lets the time pass instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Threads do not exist here: what is given to one is done at once."""

    def __init__(self) -> None:
        self._leap = _Leap()
        super().__init__(self._leap)
        self.set_task_factory(_make_task)

    def time(self) -> float:
        return self._leap.now

    # The declared type has a TypeVarTuple, to which a future of the result cannot be given here.
    def run_in_executor(  # type: ignore[override]  # see above
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - a thread hands over any error, too
            future.set_exception(error)
        return future

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    def end(self, life: Life) -> None:
        """Nothing of this life is run any more, but for the unwinding of its tasks."""
        # Nothing that is public knows what is scheduled.
        for handle in cast(Any, self)._scheduled:
            if handle._context.get(LIFE) is life:
                handle.cancel()
        for task in life.tasks:
            task.cancel()


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    life = context.get(LIFE) if context is not None else LIFE.get()
    if life is not None:
        life.tasks.append(task)
        if not life.alive:
            task.cancel()
        if len(life.tasks) > 256:
            life.tasks = [one for one in life.tasks if not one.done()]
    return task
