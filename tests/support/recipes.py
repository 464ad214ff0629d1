"""A recipe of a test's own among those of the built-in tasks."""

from __future__ import annotations

import pytest

from lionheart.tasks import TASKS, Recipe


def put_recipe(monkeypatch: pytest.MonkeyPatch, name: str, recipe: Recipe) -> None:
    """Let `name` stand for `recipe` until the test ends, whether there is such a task or not."""
    assert len(TASKS) > 0  # loads the built-in ones
    monkeypatch.setitem(TASKS._entries, name, recipe)
