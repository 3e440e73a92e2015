"""What can go wrong, named by who must act.

AssayError
├── SettingsError      the lake's owner: assay.toml, a path, a missing secret
├── ContractError      the contract's author: file, line, remedy
├── UsageError         the caller: an unknown name, a refused query
├── SourceError
│   ├── SourceBusy     nobody: ask again later
│   ├── SourceRefused  the key's owner: the vendor says no to this question, and will say it again
│   │   └── KeyRefused the key's owner: the vendor says no to the key, so to every question
│   └── SourceSuspect  the operator: the vendor answered, but the answer cannot be trusted
├── GateClosed         the data's owner: the batch is held, its reasons are in the evidence
├── LakeDamaged        the operator: what is stored is not what was written
│   └── WrongFormat    the operator: `assay upgrade`, or the newer assay that is named
├── LakeBusy           nobody: another process holds what this one needs; run it again
│   └── CommitUnknown  nobody: whether a commit is in must be looked for before it is tried again
├── BuildFailed        the model's author: dbt or one of its tests said no; the old release stays
├── AlertFiring        whoever an alert of assay.toml is for: what it says is so
└── WebhookFailed      the webhook's owner: it was not told; the alert is kept, and told by the next call
"""

from collections.abc import Sequence

from assay.spoken import printable


class AssayError(Exception):
    """An error with a sentence for a person, or several, a line each; `exit_code` is what the command returns.

    What a line quotes of others' text can neither break the line nor steer a terminal.
    """

    exit_code = 1

    def __str__(self) -> str:
        """Its lines."""
        return "\n".join(printable(str(line)) for line in self.args)


class SettingsError(AssayError):
    """The lake's settings are wrong or incomplete."""

    exit_code = 2


class ContractError(AssayError):
    """A contract cannot be read, contradicts itself or breaks what was promised."""

    exit_code = 2


class UsageError(AssayError):
    """The caller asked for what does not exist or is not allowed."""

    exit_code = 2


class SourceError(AssayError):
    """A source did not give what was asked for."""

    exit_code = 3


class SourceBusy(SourceError):
    """The vendor is down, slow or throttling: the same request may work later.

    `retry_after` is the vendor's own wish in seconds, where it stated one.
    """

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, *lines: str, retry_after: float | None = None) -> None:
        """Keep the vendor's wish beside the sentence."""
        super().__init__(*lines)
        self.retry_after = retry_after


class SourceRefused(SourceError):
    """The vendor refused for good: key, plan or parameters must change first."""


class KeyRefused(SourceRefused):
    """The vendor refuses the key itself, or its volume is used up: asking on is of no use."""


class SourceSuspect(SourceError):
    """The vendor answered with something that cannot be the whole truth; nothing was landed."""


class GateClosed(AssayError):
    """One or more batches were held by their gate, or most of a landing is bad."""

    exit_code = 4


class LakeDamaged(AssayError):
    """Stored bytes, counts or references do not agree with each other.

    `lost` says that it is all that one object is not there.
    """

    exit_code = 5

    def __init__(self, *lines: str, lost: bool = False) -> None:
        """Keep beside the sentence what it is about."""
        super().__init__(*lines)
        self.lost = lost


class WrongFormat(LakeDamaged):
    """What is stored is whole, and of a format that this assay does not read: it is a newer one's, or wants `assay upgrade`."""


class LakeBusy(AssayError):
    """Another process changed the same thing first; nothing of ours became visible."""

    exit_code = 75


class CommitUnknown(LakeBusy):
    """A catalog answered a commit with an error, and may have applied it: look at the table's head before going on."""


class BuildFailed(AssayError):
    """Gold was not released: a model or a test failed."""

    exit_code = 6


class AlertFiring(AssayError):
    """An alert of the lake's settings fires."""

    exit_code = 7


class WebhookFailed(AssayError):
    """A webhook could not be told of an alert; the next call tells it."""

    exit_code = 75


def of_code(code: int) -> type[AssayError]:
    """The class that says who must act where only a command's exit code is known: the most general one that has it."""
    level: list[type[AssayError]] = [AssayError]
    while level:
        for one in level:
            if one.exit_code == code:
                return one
        level = [below for one in level for below in one.__subclasses__()]
    return AssayError


def together(found: Sequence[AssayError]) -> AssayError:
    """One error that says all of them, a line each: of the first's class, so that it says who must act first."""
    if len(found) == 1:
        return found[0]
    first = type(found[0])
    lines = [(type(one), number, line) for one in found for number, line in enumerate(one.args)]
    return first(*(line if kind is first or number else f"{kind.__name__}: {line}" for kind, number, line in lines))
