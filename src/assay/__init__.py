"""The lake that runs whole on your laptop, deploys unchanged to AWS, and can explain every number it serves."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`assay.open(path)` opens a lake; it is imported when asked for, so that the parts stay importable alone."""
    if name == "open":
        from assay.run import open as open_lake

        return open_lake
    raise AttributeError(f"module 'assay' has no attribute {name!r}")
