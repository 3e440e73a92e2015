"""Nobody's account is asked by chance: these tests run with `-m live` alone, and see the environment of whoever runs them."""

import os

import pytest

ENVIRONMENT = dict(os.environ)
"""As it was before the other tests' conftest took AWS's variables, and the home directory, away."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "live" in config.option.markexpr:
        return
    left = [one for one in items if one.get_closest_marker("live")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [one for one in items if one not in left]
