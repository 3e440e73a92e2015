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
├── LakeBusy           nobody: another process holds what this one needs; run it again
│   └── CommitUnknown  nobody: whether a commit is in must be looked for before it is tried again
└── BuildFailed        the model's author: dbt or one of its tests said no; the old release stays
"""

from collections.abc import Sequence


class AssayError(Exception):
    """An error with a sentence for a person; `exit_code` is what the command returns."""

    exit_code = 1


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

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """Keep the vendor's wish beside the sentence."""
        super().__init__(message)
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
    """Stored bytes, counts or references do not agree with each other."""

    exit_code = 5


class LakeBusy(AssayError):
    """Another process changed the same thing first; nothing of ours became visible."""

    exit_code = 75


class CommitUnknown(LakeBusy):
    """A catalog answered a commit with an error, and may have applied it: look at the table's head before going on."""


class BuildFailed(AssayError):
    """Gold was not released: a model or a test failed."""

    exit_code = 6


def together(found: Sequence[AssayError]) -> AssayError:
    """One error that says all of them, a line each: of the first's class, so that it says who must act first."""
    if len(found) == 1:
        return found[0]
    first = type(found[0])
    return first("\n".join(str(one) if type(one) is first else f"{type(one).__name__}: {one}" for one in found))
