"""One hook's calls in progress, in an object and not in a frame: another thread can go on behind a call that hangs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from mailserv.hooks.implementation import SILENT, Failure, Implementation, Pick

T = TypeVar("T")


class Listed(NamedTuple):
    """One hook's implementations in the operator's order, as a round needs them."""

    left: dict[Implementation, bool]
    calls: Sequence[tuple[Implementation, Callable[..., Any], Pick]]

    @classmethod
    def of(cls, found: Sequence[Implementation]) -> Listed:
        return cls(dict.fromkeys(found, True), tuple((each, each.function, each.pick) for each in found))


class Round:
    """Made by one thread, called by the one that owns it, which a call that hangs loses it to another one."""

    __slots__ = ("_calls", "_left", "answers", "arguments", "at")

    def __init__(self, listed: Listed, arguments: dict[str, Any]) -> None:
        self._left = listed.left.copy()
        self._calls = listed.calls
        self.arguments = arguments
        self.answers: Sequence[tuple[Implementation, Any]] = ()
        """What was said, each settled, in the order of the calls; nobody is here who had no opinion."""
        self.at: Implementation | None = None
        """The one that is at work, each of them once. Any thread may read it."""

    def take(self, implementation: Implementation, answer: Any) -> bool:
        """An answer that is not None. True: ask no more of them."""
        self.answers = (*self.answers, (implementation, answer))
        return False

    def call(self, monotonic: Callable[[], float]) -> bool:
        """Call all that are left. False: a call has overrun, and another thread owns the round and all that comes of it."""
        left, arguments = self._left, self.arguments
        pop, values = left.pop, ()
        last: Pick | None = None
        began = monotonic()
        for each, function, pick in self._calls:
            self.at = each
            result = SILENT
            if each.is_watched:
                result = each.attempt(arguments)
            else:  # as `attempt` and `settle`, without calling them: this is what every call goes through while all is well
                if pick is not last:  # most want the same
                    last, values = pick, pick(arguments)
                try:
                    if (answer := function(*values)) is not None:
                        result = (answer, None, True)
                except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
                    result = (None, error, True)
            ended = monotonic()
            if not pop(each, False):  # atomic: whoever takes a call out of what is left owns the round
                each.returned_late()
                return False
            if result is SILENT:
                each.calls += 1
                each.seconds += ended - began
            else:
                self._settled(each, each.settle(result, ended - began))
                last = None  # an answer may have changed an argument
                if not left:
                    return True
            began = ended
        return True

    def give_up(self, late: Implementation) -> bool:
        """On the thread that shall go on: wait no longer for this call. False: it has returned just now."""
        if not self._left.pop(late, False):
            return False
        self._settled(late, late.overran())
        self._calls = [call for call in self._calls if call[0] in self._left]
        return True

    def unavailable(self) -> None:
        """There is no thread to call anybody on."""
        while self._left:
            each = next(iter(self._left))
            del self._left[each]
            self._settled(each, each.unavailable())

    def _settled(self, implementation: Implementation, answer: Any) -> None:
        if answer is not None and self.take(implementation, answer):
            self._left.clear()


class FirstAnswer(Round):
    """Whoever answers is the last to be asked."""

    __slots__ = ()

    def take(self, implementation: Implementation, answer: Any) -> bool:
        super().take(implementation, answer)
        return True


class Changing(Round):
    """Each gets what the one before it made of the argument `changes`. A Failure is the end, and stands in `answers`."""

    __slots__ = ("_changes",)

    def __init__(self, listed: Listed, arguments: dict[str, Any], changes: str) -> None:
        super().__init__(listed, arguments)
        self._changes = changes

    def take(self, implementation: Implementation, answer: Any) -> bool:
        if isinstance(answer, Failure):
            super().take(implementation, answer)
            return True
        self.arguments[self._changes] = answer
        return False


Asking = Generator[Round, None, T]
"""What asks plugins: it stands still at a `yield` while a round is called, so that any thread can go on with it."""
NOBODY = cast("Asking[Any]", ())
"""An `Asking` where there is nobody to be asked: `yield from` nothing is None, and costs nothing."""


def asked(round_: Round) -> Asking[None]:
    """It alone, and nothing is made of its answers."""
    yield round_


def unasked(asking: Asking[T]) -> T:
    """What comes of it where there are no plugins."""
    try:
        next(asking)
    except StopIteration as end:
        answer: T = end.value
        return answer
    raise AssertionError("it asks plugins, and nobody would call them")
