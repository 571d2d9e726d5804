"""A dispatcher that runs with its threads, and the moments at which a test may look."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from queue_kit import World

from mailserv.mail.delivery import Transport
from mailserv.queue.dispatcher import Dispatcher
from mailserv.settings import Queue
from mailserv.store.interface import Store

WAIT = 10.0  # seconds that a test waits for another thread before it fails


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do and nobody is told of."""
    ends = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < ends
        os.sched_yield()


class Signals:
    """A store that tells when a settlement was committed, and may be told to fail."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changed = threading.Condition()
        self.fail: dict[str, list[Exception]] = {}
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)
        if not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.changed:
                self.calls[name] = self.calls.get(name, 0) + 1
                self.changed.notify_all()
                errors = self.fail.get(name)
                if errors:
                    raise errors.pop(0)
            if name == "settle":
                kwargs["wait"] = True
            try:
                return real(*args, **kwargs)
            finally:
                with self.changed:
                    self.changed.notify_all()

        return call

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is looked at after each call to the store."""
        with self.changed:
            assert self.changed.wait_for(condition, WAIT)


class Running:
    """A dispatcher over a world's store."""

    def __init__(self, world: World, transports: dict[str, Transport], settings: Queue) -> None:
        self.world = world
        self.store = Signals(world.store)
        self.dispatcher = Dispatcher(
            self.store,  # type: ignore[arg-type]
            transports,
            world.bouncer,
            clock=world.clock,
            settings=settings,
            node="node",
            rng=random.Random(2),
        )

    def tick(self, seconds: float) -> None:
        """Time passes; the dispatcher, which sleeps in real time, is told to look at the clock."""
        self.world.clock.advance(seconds)
        self.dispatcher._lanes.kick()

    def stop(self, seconds: float = WAIT) -> None:
        self.dispatcher.stop(self.world.clock.monotonic() + seconds)


@contextmanager
def running(world: World, transport: Transport | None, settings: Queue | None = None) -> Iterator[Running]:
    made = Running(world, {"smtp": transport} if transport else {}, settings or Queue(workers=4))
    made.dispatcher.start()
    try:
        yield made
    finally:
        made.stop()
