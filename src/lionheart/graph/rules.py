"""Rules with which a user selects projections (weight matrices): names, shell patterns, regular expressions, layer types."""

from __future__ import annotations

import fnmatch
import json
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterable
from typing import Protocol

from lionheart.deprecated import rename_rules
from lionheart.errors import ConfigError, suggest

_LONGEST = 1_000  # characters of a rule
_SHOWN = 60  # characters of a rule in an error
_OVER_LIMIT = getattr(signal, "SIGXCPU", 24)  # signal that ends a process at its limit of processor time
_SECONDS = 2  # of processor time, for the search with one regular expression in all names
_LONGEST_WAIT = 20.0  # seconds until the process that searches is ended, on a busy machine too
#: Program that reads a limit of processor time [s], a pattern and names, and writes the names in which the pattern is found.
#: It runs in its own process, which the operating system ends at the limit; Windows has no such limit.
_SEARCH = """
import json, re, sys
limit, pattern, names = json.load(sys.stdin)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
except ImportError:
    pass
json.dump([name for name in names if re.search(pattern, name)], sys.stdout)
"""


class Named(Protocol):
    """Interface of projections (weight matrices) that a user can select with rules.

    A rule is compared either with the names of a projection (`fqn` and `aliases`), or with its `layer_type`.
    """

    @property
    def fqn(self) -> str:
        """Fully qualified name of the projection."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Fully qualified names of other layers that use the same weight."""

    @property
    def layer_type(self) -> str:
        """Name of the layer type, such as ``linear`` or ``conv2d``."""


def explain_choices(
    nodes: Iterable[Named],
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    *,
    options: tuple[str, str] = ("include", "exclude"),
) -> dict[str, str]:
    """Return the names of the projections (weight matrices) that rules of the user keep digital, each with a reason.

    Args:
        nodes: Projections that the rules are compared with.
        include: Rules for projections that may become analog, in the syntax described at `find_candidates`; projections that
            match none stay digital. Empty = all may become analog.
        exclude: Rules for projections that stay digital, even if an include rule matches them.
        options: Names of the two options that hold `include` and `exclude`, for error messages.

    Raises:
        ConfigError: A rule matches no projection, is not a valid regular expression, or takes too long.
    """
    known = list(nodes)
    included, excluded = rename_rules(options[0], include), rename_rules(options[1], exclude)
    chosen = _match_all(options[0], included, known) if included else {node.fqn for node in known}
    refused = _match_all(options[1], excluded, known)
    reasons = {node.fqn: "not included by the user" for node in known if node.fqn not in chosen}
    return reasons | {node.fqn: "kept digital by the user" for node in known if node.fqn in refused}


def match_rules(option: str, rules: Iterable[str], nodes: Iterable[Named]) -> tuple[str, ...]:
    """Return the names of all projections (weight matrices) that match at least one rule, in the order of `nodes`.

    Args:
        option: Name of the option that holds the rules, for error messages.
        rules: Rules in the syntax described at `find_candidates`.
        nodes: Projections that the rules are compared with.

    Raises:
        ConfigError: A rule matches no projection, is not a valid regular expression, or takes too long.
    """
    known = list(nodes)
    found = _match_all(option, rename_rules(option, rules), known)
    return tuple(node.fqn for node in known if node.fqn in found)


def _match_all(option: str, rules: Iterable[str], nodes: Collection[Named]) -> set[str]:
    """Return the names of the projections (weight matrices) that match a rule. Raise an error for a rule without a match."""
    matched: set[str] = set()
    for rule in rules:
        if len(rule) > _LONGEST:
            raise ConfigError(
                f"{option}: got a rule of {len(rule):,} characters, expected at most {_LONGEST:,}",
                hint="split the rule into several rules",
            )
        found = _match(option, rule, nodes)
        if not found:
            by_type = rule.startswith("type:")
            names = sorted({f"type:{node.layer_type}" for node in nodes}) if by_type else [node.fqn for node in nodes]
            hint = suggest(rule, names, label="layer types" if by_type else "projections")
            raise ConfigError(
                f"{option}: {_show(rule)} matches no projection (weight matrix) of the network", hint=hint
            )
        matched |= found
    return matched


def _match(option: str, rule: str, nodes: Collection[Named]) -> set[str]:
    """Return the names of the projections (weight matrices) that match `rule`."""
    prefix, colon, pattern = rule.partition(":")
    if colon and prefix == "type":
        return {node.fqn for node in nodes if fnmatch.fnmatchcase(node.layer_type, pattern)}
    names = {node.fqn: (node.fqn, *node.aliases) for node in nodes}
    if colon and prefix == "re":
        found = _search(option, rule, pattern, {name for known in names.values() for name in known})
        return {fqn for fqn, known in names.items() if not found.isdisjoint(known)}
    return {
        fqn for fqn, known in names.items() if any(each == rule or fnmatch.fnmatchcase(each, rule) for each in known)
    }


def _search(option: str, rule: str, pattern: str, names: Collection[str]) -> set[str]:
    """Return the names in which the regular expression `pattern` is found.

    The time of a search can grow exponentially if the expression has several repetitions or repeats a group. Such a search runs
    in its own process, because Python cannot interrupt it.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of syntax that may change its meaning
            compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(
            f"{option}: {_show(rule)} is not a valid regular expression: {reason}",
            hint="correct the expression, or use a shell pattern without 're:'",
        ) from None
    n_repetitions = sum(pattern.count(each) for each in "*+?{")
    if n_repetitions == 0 or (n_repetitions == 1 and "(" not in pattern):
        return {name for name in names if compiled.search(name)}
    try:
        done = subprocess.run(  # noqa: S603  the program is a constant, the pattern is data
            [sys.executable, "-I", "-S", "-c", _SEARCH],
            input=json.dumps([_SECONDS, pattern, sorted(names)]),
            capture_output=True,
            text=True,
            timeout=_LONGEST_WAIT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        if isinstance(error, subprocess.TimeoutExpired) or getattr(error, "returncode", 0) == -_OVER_LIMIT:
            raise ConfigError(
                f"{option}: the search with {_show(rule)} takes longer than {_SECONDS} s",
                hint="avoid a repetition inside a repetition such as (a+)+, or use a shell pattern without 're:'",
            ) from None
        raise ConfigError(
            f"{option}: the search with {_show(rule)} failed", hint="use a simpler expression or a shell pattern"
        ) from None
    return set(json.loads(done.stdout))


def _show(rule: str) -> str:
    """Return a rule in the form in which errors quote it, shortened if it is long."""
    return repr(rule if len(rule) <= _SHOWN else f"{rule[:_SHOWN]}...")
