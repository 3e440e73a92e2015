"""A lake opened: its methods are the commands; a plain loop over steps; the proofs that read every zone."""

from assay.run.lake import Lake, calendar, check, init, open  # noqa: A004 - `assay.open` is the name people know from files

__all__ = ["Lake", "calendar", "check", "init", "open"]
