"""The worlds that several files of tests share: one for each routing protocol, generation and mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .world import INJECT_FLAVOURS, KERNEL_FLAVOURS, Flavour, World, make_world, parameters

FLAVOURS = (*KERNEL_FLAVOURS, *INJECT_FLAVOURS)


@pytest.fixture(scope="session", params=parameters(FLAVOURS))
def routed_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A world that tests share. A test leaves everything in it running; its clients are its own."""
    with make_world(request.param) as new:
        yield new


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what shares a world together: a world takes some seconds to come up."""
    places = [place for place, item in enumerate(items) if _flavour_of(item) is not None]
    in_order = sorted((items[place] for place in places), key=lambda item: FLAVOURS.index(_flavour_of(item)))
    for place, item in zip(places, in_order, strict=True):
        items[place] = item


def _flavour_of(item: pytest.Item) -> Flavour | None:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("routed_world")
