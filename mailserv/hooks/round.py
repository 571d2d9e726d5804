"""One hook's calls in progress, in an object and not in a frame: another thread can go on behind a call that hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from itertools import groupby
from typing import Any, TypeVar, cast

from mailserv.hooks.implementation import Failure, Implementation, Pick

T = TypeVar("T")
Group = tuple[Pick | None, Sequence[tuple[int, Callable[..., Any]]]]
"""Functions that stand behind each other and want the same arguments, each with its number; or, without a pick, `attempt`s."""


class Listed:
    """One hook's implementations in the operator's order, as rounds need them, and what their silence came to.

    `groups`: whom to call; those that are watched are called by `attempt`. `left`: their numbers. Any thread.
    """

    __slots__ = ("_lock", "groups", "implementations", "left", "rounds", "seconds")

    def __init__(self, found: Sequence[Implementation]) -> None:
        self.implementations = tuple(found)
        self.left = dict.fromkeys(range(len(found)))
        self.rounds = 0
        """In which nobody had an opinion: one addition and not one for each."""
        self.seconds = [0.0] * len(found)
        """Of each, in all their calls."""
        self._lock = threading.Lock()
        self.groups: Sequence[Group] = ()
        for number, each in enumerate(found):
            each.enlist(self, number)
        self.regroup()

    def regroup(self) -> None:
        """To be told when one is watched from now on, or no more."""
        with self._lock:
            by_pick = groupby(self.implementations, lambda each: None if each.is_watched else each.pick)
            self.groups = [
                (pick, [(each.number, each.function if pick else each.attempt) for each in some])
                for pick, some in by_pick
            ]


class Round:
    """Made by one thread, called by the one that owns it, which a call that hangs loses it to another one."""

    __slots__ = ("_groups", "_left", "_listed", "_spoke", "answers", "arguments")

    def __init__(self, listed: Listed, arguments: dict[str, Any]) -> None:
        self._listed = listed
        self._left = listed.left.copy()
        self._groups = listed.groups
        self._spoke: tuple[int, ...] = ()
        self.arguments = arguments
        self.answers: Sequence[tuple[Implementation, Any]] = ()
        """What was said, each settled, in the order of the calls; nobody is here who had no opinion."""

    @property
    def at(self) -> Implementation | None:
        """The one that is at work, each of them once; None at the end. Any thread."""
        try:
            return self._listed.implementations[next(iter(self._left))]
        except (StopIteration, RuntimeError):  # RuntimeError: it has just returned
            return None

    def take(self, implementation: Implementation, answer: Any) -> bool:
        """An answer that is not None. True: ask no more of them."""
        self.answers = (*self.answers, (implementation, answer))
        return False

    def call(self, monotonic: Callable[[], float]) -> bool:
        """Call all that are left. False: a call has overrun, and another thread owns the round and all that comes of it."""
        listed, left, arguments = self._listed, self._left, self.arguments
        seconds, groups = listed.seconds, self._groups
        has_raised = False
        began = monotonic()
        for pick, calls in groups:
            values = pick(arguments) if pick is not None else (arguments,)
            for number, function in calls:
                try:
                    answer = function(*values)
                except BaseException as error:  # noqa: BLE001 - as in `attempt`: a plugin may raise anything
                    answer, has_raised = error, True
                ended = monotonic()
                try:
                    del left[number]  # atomic: whoever takes a call out of what is left owns the round
                except KeyError:
                    listed.implementations[number].returned_late()
                    return False
                if answer is None:
                    seconds[number] += ended - began
                else:
                    each = listed.implementations[number]
                    result = answer if pick is None else (None, answer, True) if has_raised else (answer, None, True)
                    self._spoke = (*self._spoke, number)
                    self._take(each, each.settle(result, ended - began))
                    if not left:
                        self._count(number)
                        return True
                    has_raised = False
                    values = pick(arguments) if pick is not None else (arguments,)  # an answer may have changed one
                began = ended
        if self._spoke or groups is not listed.groups:
            self._count(None)
        else:
            listed.rounds += 1
        return True

    def give_up(self, late: Implementation) -> bool:
        """On the thread that shall go on: wait no longer for this call. False: it has returned just now."""
        left = self._left
        try:
            del left[late.number]
        except KeyError:
            return False
        self._count(late.number)
        self._take(late, late.overran())
        self._groups = [(pick, [call for call in calls if call[0] in left]) for pick, calls in self._groups]
        self._spoke = ()
        return True

    def unavailable(self) -> None:
        """There is no thread to call anybody on."""
        while self._left:
            number = next(iter(self._left))
            del self._left[number]
            each = self._listed.implementations[number]
            self._take(each, each.unavailable())

    def _take(self, implementation: Implementation, answer: Any) -> None:
        if answer is not None and self.take(implementation, answer):
            self._left.clear()

    def _count(self, until: int | None) -> None:
        """Those before `until` that were silent, one by one: the others have counted themselves, or were not called."""
        for _, calls in self._groups:
            for number, _ in calls:
                if number == until:
                    return
                if number not in self._spoke:
                    self._listed.implementations[number].counted += 1


class FirstAnswer(Round):
    """Whoever answers is the last to be asked."""

    __slots__ = ()

    def take(self, implementation: Implementation, answer: Any) -> bool:
        super().take(implementation, answer)
        return True


class Changing(Round):
    """Each gets what the one before it made of the argument `changes`; of one on trial nothing is handed on. `answers` has
    None for whoever changed it, and a Failure, which is the end."""

    __slots__ = ("_changes",)

    def __init__(self, listed: Listed, arguments: dict[str, Any], changes: str) -> None:
        super().__init__(listed, arguments)
        self._changes = changes

    def take(self, implementation: Implementation, answer: Any) -> bool:
        if isinstance(answer, Failure):
            super().take(implementation, answer)
            return True
        if not implementation.observed:
            self.arguments[self._changes] = answer
        return super().take(implementation, None)


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
