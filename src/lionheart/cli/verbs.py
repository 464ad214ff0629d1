"""Behaviour of all commands: the flags --quiet and --verbose, deprecated flags, errors, exit codes, and unknown names."""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from lionheart.cli.console import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_DONE,
    printing,
    say,
    show_error,
    warn,
)
from lionheart.cli.signals import catch_signals, describe_stop, exit_code_of
from lionheart.deprecated import FLAGS, OldFlag, describe_deprecated
from lionheart.errors import ConfigError, LionHeartError, suggest
from lionheart.text import escape_controls

_SETTINGS = "settings"  # parameter of --set
_PATHS = {"--out", "--config", "--resume", "--start"}  # flags that take a path
_UNDECODED = re.compile("[\ud800-\udfff]")  # how Python represents bytes that are not text
_TYPES = {"value": str | None, "list": list[str] | None, "switch": bool}
_UsageError: Any = typer.BadParameter.__base__  # class of click, or of the copy of click in typer


def make_command(verb: Callable[..., None], name: str) -> Callable[..., None]:
    """Return `verb` as a command that also accepts the flags of all commands and the deprecated flags of this command.

    The additional flags are hidden in help texts. If a setting has replaced a deprecated flag, the flag sets this setting.
    Errors are printed as one message and determine the exit code.

    Args:
        verb: Function that runs the command, with one parameter per flag.
        name: Name of the command on the command line.
    """
    signature = inspect.signature(verb, eval_str=True)
    old = {_parameter(flag): (flag, each) for flag, each in {**FLAGS[""], **FLAGS.get(name, {})}.items()}
    defaults = {key: each.default for key, each in signature.parameters.items()}

    @functools.wraps(verb)
    def run(*, context: typer.Context, quiet: bool, verbose: bool, **values: Any) -> None:
        given = {flag: (each, values.pop(key)) for key, (flag, each) in old.items()}
        everywhere = context.find_root().params
        is_verbose = verbose or bool(everywhere.get("verbose")) or given["--debug"][1]
        with (
            printing(quiet=quiet or bool(everywhere.get("quiet")), verbose=is_verbose),
            _exit_codes(verbose=is_verbose),
        ):
            verb(**_take_old_flags(values, given, defaults))

    flags = [_hidden("quiet", bool, "--quiet", "-q"), _hidden("verbose", bool, "--verbose")]
    flags += [_hidden(key, _TYPES[each.form], flag) for key, (flag, each) in old.items()]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    every = [*signature.parameters.values(), context, *flags]
    run.__signature__ = signature.replace(parameters=every)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in every}  # evaluated: typer need not do it again
    return run


def _parameter(flag: str) -> str:
    return "old_" + flag.strip("-").replace("-", "_")


def _hidden(name: str, annotation: Any, *flags: str) -> inspect.Parameter:
    option = Annotated[annotation, typer.Option(*flags, hidden=True)]
    default = False if annotation is bool else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)


def _take_old_flags(
    values: dict[str, Any], given: Mapping[str, tuple[OldFlag, Any]], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a command, with the values of deprecated flags moved to the flags or settings that replace them.

    A warning is printed for each deprecated flag that was given.

    Args:
        values: Values of the current flags by name of the parameter.
        given: For each deprecated flag, its replacement and its value.
        defaults: Default values of the current flags by name of the parameter.
    """
    for flag, (old, value) in given.items():
        if value in (None, False, []):
            continue
        warn(describe_deprecated(flag, old.describe()))
        if flag in FLAGS[""]:
            continue
        if old.is_renamed:
            name = old.replacement.strip("-").replace("-", "_")
            if values[name] != defaults[name]:
                raise ConfigError(
                    f"{flag}: got {old.replacement} too, expected only one of these flags",
                    hint=f"give only {old.replacement}",
                )
            values[name] = value
        else:
            text = json.dumps(value) if old.form == "list" else "true" if old.form == "switch" else value
            values[_SETTINGS] = [*(values[_SETTINGS] or ()), f"{old.replacement}={text}"]
    return values


@contextmanager
def _exit_codes(*, verbose: bool) -> Iterator[None]:
    """Return a context manager that prints an exception in its context as one message, and exits with the exit code."""
    try:
        yield
    except LionHeartError as error:
        show_error(error.message, error.hint, verbose=verbose)
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt as error:
        say(describe_stop(error))
        raise typer.Exit(exit_code_of(error)) from None
    except typer.Exit:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the operating system, about a file of the user
            where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
            show_error(
                f"{where}{error.strerror}", "check the path, its permissions and the free space", verbose=verbose
            )
            raise typer.Exit(EXIT_BAD_INPUT) from None
        hint = "this is a bug in lionheart; run the command again with --verbose and report the traceback"
        show_error(f"internal error: {type(error).__name__}: {error}", hint, verbose=verbose)
        raise typer.Exit(EXIT_BUG) from None


class Verb(TyperCommand):
    """A command whose help text shows no types, such as <bool> or <str>, for switches and arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command. Every argument must be text, and the path after a flag must not be empty.

        Raises:
            ConfigError: A path is empty, or an argument contains bytes that are not text in the encoding of the locale.
        """
        for before, text in zip(["", *args], args, strict=False):
            if (before in _PATHS and not text.strip()) or text in {f"{flag}=" for flag in _PATHS}:
                raise ConfigError(
                    f"{ctx.info_name}: {before if before in _PATHS else text[:-1]}: got an empty text, expected a path",
                    hint="give a path, or omit the flag; an environment variable may be empty",
                )
            if _UNDECODED.search(text):
                raise ConfigError(
                    f"{ctx.info_name}: got {escape_controls(text)!r}, not text in {sys.getfilesystemencoding()}",
                    hint="use other letters, or set a UTF-8 locale, for example LC_ALL=C.UTF-8",
                )
        return list(super().parse_args(ctx, args))

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the flags and arguments of the command as typer parameters, without types in the help text."""
        return [_hide_type(each) for each in super().get_params(ctx)]


def _hide_type(parameter: Any) -> Any:
    """Change a switch or an argument so that the help text shows no type, such as <bool> or <str>, and return the parameter."""
    if parameter.param_type_name == "argument" or parameter.is_flag:
        parameter.display_type_rich = lambda ctx: None
    return parameter


class VerbGroup(TyperGroup):
    """The group of all commands, which prints one message and a hint for unknown commands or flags and for missing values."""

    _asked: str = ""  # verb of the command, for errors without a context

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the flags that precede the name of the command, such as ``--version``, as typer parameters."""
        return [_hide_type(each) for each in super().get_params(ctx)]

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command named by the arguments of the process, and exit the process with the exit code of the command."""
        self._asked, options["standalone_mode"] = "", False
        catch_signals()
        try:
            sys.exit(super().main(*arguments, **options) or EXIT_DONE)
        except LionHeartError as error:
            show_error(error.message, error.hint)
        except _UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help text
                error.show()
            else:
                found = _describe_usage(error, self._asked)
                show_error(found.message, found.hint)
        except typer.Abort as error:
            stop = error.__cause__ or error.__context__
            if not isinstance(stop, KeyboardInterrupt):
                sys.exit(EXIT_BUG)
            say(describe_stop(stop))
            sys.exit(exit_code_of(stop))
        sys.exit(EXIT_BAD_INPUT)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the tuple ``(name, command, remaining arguments)`` for the command named by the first argument.

        Raises:
            ConfigError: No command has this name.
        """
        if args and args[0] not in self.commands and not ctx.resilient_parsing:
            raise ConfigError(
                f"lionheart: got {args[0]!r}, expected the name of a command",
                hint=suggest(args[0], self.commands, label="commands"),
            )
        self._asked = args[0] if args else ""
        return super().resolve_command(ctx, args)


def _describe_usage(error: Any, verb: str) -> ConfigError:
    """Return a `ConfigError` with a hint for `error`, an exception of the command-line parser.

    Args:
        error: Exception of the parser, such as an unknown flag.
        verb: Name of the command; empty = no command was given.
    """
    context, name = error.ctx, verb or "lionheart"
    command = f"lionheart {verb} --help" if verb else "lionheart --help"
    if type(error).__name__ == "NoSuchOption" and context is not None:
        near = _find_flag(context, verb, error.option_name)
        start = f"did you mean {near}? " if near else ""
        return ConfigError(f"{name}: unknown flag {error.option_name}", hint=f"{start}{command} lists all flags")
    text = " ".join(error.format_message().split()).rstrip(".")
    return ConfigError(f"{name}: {text[:1].lower()}{text[1:]}", hint=f"{command} explains all flags and arguments")


def _find_flag(context: Any, verb: str, given: str) -> str | None:
    """Return the flag or setting whose name is most similar to the unknown flag `given`, as written on the command line.

    Return None if no name is similar.
    """
    known: dict[str, str] = {
        flag: flag for each in context.command.params if not getattr(each, "hidden", False) for flag in each.opts
    }
    known |= {flag: flag for flag in ("--help", "--quiet", "--verbose")}
    known |= {flag: old.describe() for flag, old in FLAGS.get(verb, {}).items()}
    near = difflib.get_close_matches(given, [flag for flag in known if flag.startswith("--")], n=1, cutoff=0.7)
    if near:
        return known[near[0]]
    return _find_setting(given) if "--set" in known else None


def _find_setting(flag: str) -> str | None:
    from lionheart.jobs import MapSettings
    from lionheart.jobs.assignments import list_settings

    names = {path.rpartition(".")[2]: path for path in reversed(list_settings(MapSettings, {}))}
    near = difflib.get_close_matches(flag.strip("-").replace("-", "_"), names, n=1, cutoff=0.7)
    return f"--set {names[near[0]]}=..." if near else None
