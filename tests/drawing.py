"""Histories drawn all at once, to be held against one run of what costs the same for one as for thousands."""

from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

T = TypeVar("T")


def drawn(strategy: st.SearchStrategy[T], number: int) -> list[T]:
    """So many of them, the same in every run."""
    found: list[T] = []

    @settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(strategy)
    def draw(one: T) -> None:
        found.append(one)

    draw()
    return found
