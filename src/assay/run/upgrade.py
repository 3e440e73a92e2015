"""`assay upgrade`: what makes a lake of a former format one of today's, a step a number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from assay.lake import formats
from assay.targets import Target


@dataclass(frozen=True)
class Step:
    """What makes a format the next one, as people are told of it; to do it again does no harm."""

    told: str
    do: Callable[[Target], None]


STEPS: Mapping[int, Step] = {
    1: Step(
        "a ledger without checksums gets them, which takes a moment; the next command reads the logs for it anew",
        lambda target: target.upgrade_ledger(),
    ),
}
"""By the format that each step begins with: all there were before today's."""


@dataclass(frozen=True)
class Upgraded:
    """From which format to which, and by which steps."""

    before: int
    now: int
    steps: tuple[str, ...]


def upgrade(target: Target, *, dry: bool = False, say: Callable[[str], None] = lambda _: None) -> Upgraded:
    """Make a lake one of today's format; `dry` only says how. Stopped anywhere, the next one goes on with the step it was at.

    The number is put after each step: until then the lake is what it was. Where there is no data, there is nothing to do.
    """
    before = formats.of(target.files) if formats.begun(target.files) else formats.FORMAT
    steps = {number: STEPS[number] for number in range(before, formats.FORMAT)}
    for number, step in {} if dry else steps.items():
        say(f"format {number} to {number + 1}: {step.told}")
        step.do(target)
        formats.put(target.files, number + 1)
        say(f"the lake has format {number + 1}")
    return Upgraded(before, formats.FORMAT, tuple(step.told for step in steps.values()))
