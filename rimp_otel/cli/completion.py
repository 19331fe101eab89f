"""``rimp completion``: a script that teaches a shell the commands and their options."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["add_completion_parser", "bash_script", "described", "fish_script", "zsh_script"]

_FILES = {"PATH", "FILE", "OUT", "DIR", "A", "B"}
_DESCRIPTION = """\
Print a script that completes commands and options in a shell:

  bash:  rimp completion bash > ~/.local/share/bash-completion/completions/rimp
  zsh:   rimp completion zsh > "${fpath[1]}/_rimp"
  fish:  rimp completion fish > ~/.config/fish/completions/rimp.fish
"""


def add_completion_parser(subparsers: Any) -> None:
    """``rimp completion``."""
    parser = subparsers.add_parser(
        "completion",
        help="print a script for completion in a shell",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", metavar="SHELL", choices=list(_SCRIPTS), help="bash, zsh or fish")
    parser.set_defaults(command=_run_completion)


def _run_completion(args: argparse.Namespace) -> int:
    from rimp_otel.cli.main import build_parser

    print(_SCRIPTS[args.shell](described(build_parser())), end="")
    return 0


class Argument(NamedTuple):
    """An option, or what stands without one."""

    #: Empty for a positional argument.
    names: list[str]
    help: str
    takes_value: bool
    #: Empty where any value is.
    choices: list[str]
    takes_files: bool
    repeats: bool


class Command(NamedTuple):
    """A command; the first one, which has no name, is ``rimp`` itself."""

    name: str
    help: str
    arguments: list[Argument]


def described(parser: argparse.ArgumentParser) -> list[Command]:
    """What there is to complete, out of a parser with all its subcommands."""
    found = [Command("", "", list(_arguments(parser)))]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, one in action.choices.items():
                found.append(Command(name, helps.get(name, ""), list(_arguments(one))))
    return found


def _arguments(parser: argparse.ArgumentParser) -> Iterator[Argument]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        metavar = str(action.metavar or "")
        yield Argument(
            list(action.option_strings),
            re.sub(r"%%", "%", action.help or ""),
            action.nargs != 0,
            [str(choice) for choice in action.choices or _listed(action)],
            metavar in _FILES or action.nargs == argparse.REMAINDER,
            action.nargs in ("*", "+", argparse.REMAINDER)
            or isinstance(action, argparse._AppendAction),
        )


def _listed(action: argparse.Action) -> list[str]:
    """Names that a type knows, though any case of them, or a number, is taken too."""
    from rimp_otel.cli.options import SEVERITIES, severity

    return list(SEVERITIES) if action.type is severity else []


def bash_script(commands: list[Command]) -> str:
    """For bash 4 and later."""
    names = [command.name for command in commands[1:]]
    lines = [
        "# bash completion for rimp",
        "_rimp() {",
        '    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command="" words="" files="" word',
        '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        f'        case "$word" in {"|".join(names)}) command=$word; break ;; esac',
        "    done",
        '    case "$command $prev" in',
        *(
            _bash_value(command, argument)
            for command in commands
            for argument in command.arguments
            if argument.names and argument.takes_value
        ),
        "    esac",
        '    case "$command" in',
        *(_bash_command(command, names) for command in commands),
        "    esac",
        '    COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        "    if [[ -n $files && $cur != -* ]]; then",
        "        compopt -o filenames 2>/dev/null",
        '        COMPREPLY+=($(compgen -f -- "$cur"))',
        "    fi",
        "}",
        "complete -F _rimp rimp",
    ]
    return "\n".join(lines) + "\n"


def _bash_value(command: Command, argument: Argument) -> str:
    cases = "|".join(f'"{command.name} {name}"' for name in argument.names)
    if argument.choices:
        does = f'COMPREPLY=($(compgen -W "{" ".join(argument.choices)}" -- "$cur"))'
    elif argument.takes_files:
        does = 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur"))'
    else:
        does = "COMPREPLY=()"
    return f"        {cases}) {does}; return ;;"


def _bash_command(command: Command, names: list[str]) -> str:
    words = [name for argument in command.arguments for name in argument.names]
    positional = [argument for argument in command.arguments if not argument.names]
    words += [choice for argument in positional for choice in argument.choices]
    files = "yes" if any(argument.takes_files for argument in positional) else ""
    words += names if not command.name else []
    return f'        "{command.name}") words="{" ".join(words)}" files="{files}" ;;'


def zsh_script(commands: list[Command]) -> str:
    """For zsh's completion system."""
    lines = [
        "#compdef rimp",
        "",
        "_rimp() {",
        "    local context state state_descr line",
        "    typeset -A opt_args",
    ]
    lines += ["    local -a commands=("]
    lines += [f"        {shlex.quote(f'{one.name}:{one.help}')}" for one in commands[1:]]
    lines += ["    )", "    _arguments -C \\"]
    lines += [f"        {spec} \\" for argument in commands[0].arguments for spec in _zsh(argument)]
    lines += ["        '1:command:->command' '*::argument:->argument'", "    case $state in"]
    lines += [
        "    command) _describe command commands ;;",
        "    argument)",
        "        case $words[1] in",
    ]
    for command in commands[1:]:
        specs = [spec for argument in command.arguments for spec in _zsh(argument)]
        lines += [f"        {command.name}) _arguments {' '.join(specs)} ;;"]
    lines += [
        "        esac ;;",
        "    esac",
        "}",
        "",
        'if [[ $funcstack[1] == _rimp ]]; then _rimp "$@"; else compdef _rimp rimp; fi',
    ]
    return "\n".join(lines) + "\n"


def _zsh(argument: Argument) -> Iterator[str]:
    about = re.sub(r"([\[\]:\\])", r"\\\1", argument.help)
    values = (
        f"({' '.join(argument.choices)})"
        if argument.choices
        else "_files"
        if argument.takes_files
        else " "
    )
    if not argument.names:
        count = "*" if argument.repeats else ""
        yield shlex.quote(f"{count}:{about}:{values}")
        return
    for name in argument.names:
        others = "" if argument.repeats else f"({' '.join(argument.names)})"
        star = "*" if argument.repeats else ""
        value = f":{about.split(' ')[0]}:{values}" if argument.takes_value else ""
        yield shlex.quote(f"{others}{star}{name}[{about}]{value}")


def fish_script(commands: list[Command]) -> str:
    """For fish."""
    lines = ["# fish completion for rimp", "complete -c rimp -f"]
    for command in commands[1:]:
        about = shlex.quote(command.help)
        lines.append(f"complete -c rimp -n __fish_use_subcommand -a {command.name} -d {about}")
    for command in commands:
        when = (
            f"'__fish_seen_subcommand_from {command.name}'"
            if command.name
            else "__fish_use_subcommand"
        )
        lines += [
            f"complete -c rimp -n {when} {one}" for one in map(_fish, command.arguments) if one
        ]
    return "\n".join(lines) + "\n"


def _fish(argument: Argument) -> str:
    parts = [
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in argument.names
    ]
    if argument.choices:
        parts.append(f"-a {shlex.quote(' '.join(argument.choices))}")
    elif argument.takes_files:
        parts.append("-F")
    elif not argument.names:
        return ""
    if argument.names:
        # -x is -r, and no files.
        parts += ["-r" if argument.takes_files else "-x"] * argument.takes_value
        parts.append(f"-d {_fish_quote(argument.help)}")
    return " ".join(parts)


def _fish_quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


_SCRIPTS: dict[str, Callable[[list[Command]], str]] = {
    "bash": bash_script,
    "zsh": zsh_script,
    "fish": fish_script,
}
