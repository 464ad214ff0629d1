"""Run one command on damaged input and judge how it ended: exit code 0 or 2, soon, one error, nothing left behind."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from commands import lionheart_command
from folders import read_tree
from hypothesis import HealthCheck, Phase, settings
from typer.testing import Result

#: Longest time of a command on the processor [s]; a busy machine is not a failure.
LIMIT_S = 5.0

#: Control characters and characters that reverse the direction of text; a terminal would execute them.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LONGEST = 4_000  # longest error message, in characters


def fuzz(n: int) -> Any:
    """Return the settings of a test that draws `n` inputs, the same ones in each run.

    With the environment variable ``LIONHEART_FUZZ=K`` it draws `K` times as many, and others in each run.
    """
    factor = os.environ.get("LIONHEART_FUZZ")
    return settings(
        max_examples=n * int(factor or 1),
        derandomize=factor is None,
        database=None,
        deadline=None,
        phases=(Phase.generate,),  # the damage is small as it is; shrinking would take minutes
        suppress_health_check=list(HealthCheck),
    )


def judge(*arguments: str | Path, folder: Path, codes: Iterable[int] = (0, 2), may_write: Iterable[str] = ()) -> Result:
    """Run a command in `folder`, and fail if it crashes, hangs, writes control characters or leaves something behind.

    Args:
        arguments: Arguments of the command line.
        folder: Folder in which nothing may change when the command ends with exit code 2.
        codes: Exit codes that are right.
        may_write: Files in `folder` that may change even so, for example the lock of a run.
    """
    before, start, cwd = read_tree(folder), time.process_time(), Path.cwd()
    os.chdir(folder)
    try:
        result = lionheart_command(*arguments)
    finally:
        os.chdir(cwd)
    elapsed = time.process_time() - start
    assert result.exit_code in codes, f"exit code {result.exit_code}: {result.output[-2_000:]}"
    assert elapsed < LIMIT_S, f"{elapsed:.1f} s: {result.output[-500:]}"
    assert "Traceback" not in result.output
    found = CONTROLS.search(result.stderr)
    assert not found, f"{found!r} in {result.stderr[:500]!r}"
    if result.exit_code == 2:
        assert len(re.findall(r"^error: ", result.stderr, re.MULTILINE)) == 1, result.stderr[:2_000]
        assert len(result.stderr) < _LONGEST, result.stderr[:500]
        ignored = set(may_write)
        left = {key: value for key, value in read_tree(folder).items() if key not in ignored}
        assert left == {key: value for key, value in before.items() if key not in ignored}
    return result


def raises_only(kinds: type[Exception] | tuple[type[Exception], ...], function: Callable[[], Any]) -> None:
    """Call `function`; an error of another kind than `kinds` is a failure, and so is a call that takes too long."""
    start, message = time.process_time(), ""
    try:
        function()
    except kinds as error:
        message = str(error)
    assert len(message) < _LONGEST, message[:500]
    assert time.process_time() - start < LIMIT_S
