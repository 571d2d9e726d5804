"""The delivery threads: each takes the next destination, works a batch, and survives whatever that brings."""

from __future__ import annotations

import threading

from mailserv.clock import Clock
from mailserv.errors import StoreError
from mailserv.logging import get_logger
from mailserv.queue.batch import Batch, Desk
from mailserv.queue.lanes import Lane, Turn

_log = get_logger("queue")

STORE_REST = 15.0  # seconds until a destination is taken up again after the store failed


class Workers:
    """A fixed number of threads. `start` and `stop` belong to one thread, the server's."""

    def __init__(self, desk: Desk, count: int) -> None:
        self._desk = desk
        self._threads = [
            threading.Thread(target=work, args=(desk,), name=f"queue-{number}", daemon=True)
            for number in range(1, count + 1)
        ]

    def start(self) -> None:
        """Start them all. Fewer are enough when the system can give no more; raises RuntimeError when there is none."""
        for number, thread in enumerate(self._threads):
            try:
                thread.start()
            except RuntimeError as error:
                if not number:
                    raise
                _log.error("workers_missing", started=number, wanted=len(self._threads), error=str(error))
                del self._threads[number:]
                return

    def join(self, deadline: float, clock: Clock) -> bool:
        """Wait until they have ended, at most until `deadline` (monotonic seconds). Whether they have."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(deadline - clock.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)


def work(desk: Desk) -> None:
    """A worker's life. Rows of a turn that ended in the second or third way come back when their lease has run out."""
    while (lane := desk.lanes.take()) is not None:
        turn = Turn.QUIET
        try:
            turn = _turn(desk, lane)
        except StoreError as error:
            _log.error("queue_store_failed", route=str(lane.route), error=str(error))
            _rest(desk, lane)
        except BaseException:  # noqa: BLE001 - the worker loop survives what nobody expected
            _log.exception("queue_worker_broke", route=str(lane.route))
            _rest(desk, lane)
        finally:
            desk.lanes.release(lane, turn)


def _turn(desk: Desk, lane: Lane) -> Turn:
    """One batch; a transport that raises is named in the log and its messages wait."""
    batch = Batch(desk, lane)
    try:
        return batch.run()
    except StoreError:
        batch.let_go()
        raise
    except BaseException:  # noqa: BLE001 - a plugin's transport may raise anything
        _log.exception("delivery_broke", route=str(lane.route), queue_ids=batch.in_hand)
        return batch.broke()
    finally:
        batch.close()


def _rest(desk: Desk, lane: Lane) -> None:
    until = desk.clock.now() + STORE_REST
    desk.lanes.pause(lane, until)
    desk.lanes.due_again(lane, until)
