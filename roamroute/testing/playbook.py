"""A language for tests of the engine: events in, expected effects out, written as a script.

    play = Playbook(engine)
    number = Placeholder("number")
    play >> StationConnected(station)
    play << SendClaim(Claim(MAC, number, ME, Basis.ASSOCIATION), because=ANY)
    play << Watch("wlan0", MAC, because=ANY)
    play >> wait(3.0)
    play << (Withdraw(route, because=ANY), Note(ANY, because=ANY))     # in any order
    play.nothing_more()

`>>` hands over an event (or lets time pass, with every tick that is due in between) and requires that all effects so
far were expected; `<<` takes the next effect. A `Placeholder` matches anything the first time and the same thing ever
after. It runs as it is read, so a failure points at the line of the script, and shows what led to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NoReturn

import attrs

from roamroute.effects import Effect
from roamroute.engine import Engine
from roamroute.events import Event
from roamroute.values import Instant, Seconds


class _Anything:
    """Equal to everything. Typed as Any where it is used: it stands in for a field of any type."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ANY"


ANY: Final[Any] = _Anything()


class Placeholder:
    """A name for a value that the script learns: the first match binds it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._values: list[Any] = []

    @property
    def value(self) -> Any:
        """What it stands for. Raises: LookupError while it is not bound."""
        if not self._values:
            raise LookupError(f"placeholder {self.name} has met nothing yet")
        return self._values[0]

    def matches(self, value: object) -> bool:
        """Bind, or compare with what is bound."""
        if not self._values:
            self._values.append(value)
        return bool(self._values[0] == value)

    def unbind(self) -> None:
        """Forget the value: a comparison that bound it has failed elsewhere."""
        self._values.clear()

    @property
    def is_bound(self) -> bool:
        """True after the first match."""
        return bool(self._values)

    def __repr__(self) -> str:
        return f"<{self.name}={self._values[0]!r}>" if self._values else f"<{self.name}>"


def placeholder(name: str) -> Any:
    """A `Placeholder`, typed so that it may stand in any field."""
    return Placeholder(name)


@attrs.frozen
class Wait:
    """Let time pass; made by `wait`."""

    duration: Seconds


def wait(duration: Seconds) -> Wait:
    """Let `duration` seconds pass, ticking the engine whenever it asked for it."""
    return Wait(duration)


def matches(expected: object, actual: object) -> bool:
    """Compare a value that may hold placeholders with a real one; on failure placeholders are as before."""
    bound: list[Placeholder] = []
    if _matches(expected, actual, bound):
        return True
    for each in bound:
        each.unbind()
    return False


def _matches(expected: object, actual: object, bound: list[Placeholder]) -> bool:
    if isinstance(expected, Placeholder):
        if not expected.is_bound:
            bound.append(expected)
        return expected.matches(actual)
    if isinstance(expected, _Anything):
        return True
    if isinstance(expected, tuple) and isinstance(actual, tuple):
        return len(expected) == len(actual) and all(
            _matches(wanted, given, bound) for wanted, given in zip(expected, actual, strict=True)
        )
    kind = type(expected)
    if attrs.has(kind):
        return kind is type(actual) and all(
            _matches(getattr(expected, field.name), getattr(actual, field.name), bound)
            for field in attrs.fields(kind)
            if field.eq
        )
    return bool(expected == actual)


class Playbook:
    """Runs a script against one engine. `ignoring`: types of effects that this script does not talk about."""

    def __init__(self, engine: Engine, now: Instant = 1000.0, ignoring: Iterable[type] = ()) -> None:
        self.engine = engine
        self.now = now
        self.ignoring = tuple(ignoring)
        self._pending: list[tuple[Instant, Effect]] = []
        self._story: list[str] = []

    def __rshift__(self, step: Event | Wait) -> Playbook:
        self.nothing_more()
        self._do(step)
        return self

    def __lshift__(self, expected: Any) -> Playbook:
        __tracebackhide__ = True
        if not isinstance(expected, tuple):
            if not self._pending:
                self._fail(f"expected {expected!r}, but nothing more came")
            when, actual = self._pending[0]
            if not matches(expected, actual):
                self._fail(f"expected {expected!r}\n     but got {actual!r} at {when:.3f}")
            self._take(0)
            return self
        for each in expected:
            for position, (_, actual) in enumerate(self._pending):
                if matches(each, actual):
                    self._take(position)
                    break
            else:
                self._fail(f"expected, in any order, {each!r}, which is not among what came")
        return self

    def nothing_more(self) -> None:
        """Require that every effect so far was expected."""
        __tracebackhide__ = True
        if self._pending:
            self._fail("effects that nobody expected")

    def skip(self) -> list[Effect]:
        """Hand out what came and was not yet expected, and go on."""
        came = [effect for _, effect in self._pending]
        while self._pending:
            self._take(0)
        return came

    def skim(self, kind: type) -> list[Any]:
        """Hand out what came of one kind (an effect or a union of effects), let everything else pass."""
        return [effect for effect in self.skip() if isinstance(effect, kind)]

    def play(self, *steps: Event | Wait) -> list[Effect]:
        """Do several steps and hand out all effects: for what leads up to the scene."""
        for step in steps:
            self._do(step)
        return self.skip()

    def wait_for(self, kind: type, at_most: Seconds) -> list[Effect]:
        """Let time pass until an effect of this kind comes; hand out all that came. Raises: AssertionError if none."""
        __tracebackhide__ = True
        end = self.now + at_most
        self._story.append(f"{self.now:10.3f} >> wait for {kind.__name__}, at most {at_most} s")
        while not any(isinstance(effect, kind) for _, effect in self._pending):
            due = self.engine.next_wakeup
            if due is None or due > end:
                self._fail(f"no {kind.__name__} within {at_most} s")
            self.now = max(self.now, due)
            self._came(self.engine.tick(self.now))
        return self.skip()

    # -- below ------------------------------------------------------------------------------------------------------

    def _do(self, step: Event | Wait) -> None:
        if isinstance(step, Wait):
            self._story.append(f"{self.now:10.3f} >> wait {step.duration} s")
            self._wait(self.now + step.duration)
        else:
            self._story.append(f"{self.now:10.3f} >> {step!r}")
            self._came(self.engine.handle(step, self.now))

    def _wait(self, until: Instant) -> None:
        while (due := self.engine.next_wakeup) is not None and due <= until:
            self.now = max(self.now, due)
            self._came(self.engine.tick(self.now))
        self.now = until

    def _came(self, effects: list[Effect]) -> None:
        self._pending += [(self.now, effect) for effect in effects if not isinstance(effect, self.ignoring)]

    def _take(self, position: int) -> None:
        when, effect = self._pending.pop(position)
        self._story.append(f"{when:10.3f}    << {effect!r}")

    def _fail(self, reason: str) -> NoReturn:
        __tracebackhide__ = True
        story = "\n".join(self._story[-40:])
        rest = "\n".join(f"{when:10.3f}     ? {effect!r}" for when, effect in self._pending)
        rest = rest or "           nothing"
        raise AssertionError(f"{reason}\n--- what happened\n{story}\n--- not yet expected\n{rest}")
