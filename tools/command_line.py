"""Write docs/command-line.md, the reference of every verb and option, from the parser that reads them.

python tools/command_line.py
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from braincam import cli
from braincam.files import write_text
from braincam.training.config import reference

PAGE = Path(__file__).parents[1] / "docs" / "command-line.md"
HEAD = """# The command line

<!-- Written by tools/command_line.py from the parser; changes here are lost. -->

`braincam VERB --help` says the same. Answers and tables go to stdout, progress and errors to stderr. A mistake is
one line: what, where, expected, got, what to do.

| exit code | when |
|---|---|
| 0 | done; for `predict`, every input was answered, and a refusal is an answer |
| 1 | some input of `predict` is an `error`, or some model of `models` is damaged |
| 2 | nothing could be done: a wrong call, a model or folder that cannot be used, a failed training, a full disk |
| 3 | `audit --strict` or `split --check` found a leak or a conflict |
| 130, 143 | stopped by the user or by the system; what was finished is kept |
"""
RECIPE = """## The keys of a recipe

`train` and `crossval` take each of these with `--set KEY=VALUE`, or all in a TOML file with `--config FILE.toml`,
such as the `config.toml` of an earlier run. The defaults are the [default recipe](recipe.md#the-default-recipe).

| key | default | values | what |
|---|---|---|---|
"""


def main() -> None:
    """Write the page."""
    write_text(PAGE, page())


def page() -> str:
    """The whole reference as Markdown."""
    found = verbs()
    rows = [f"| [`{name}`](#braincam-{name}) | {cell(verb.description or '')} |" for name, verb in found.items()]
    parts = [HEAD, "\n".join(["| verb | what |", "|---|---|", *rows]) + "\n"]
    parts += ["\n".join(section(verb)) for verb in found.values()]
    parts += [
        RECIPE
        + "\n".join(
            f"| `{key}` | `{default}` | {cell(values)} | {cell(meaning)} |"
            for key, default, values, meaning in reference()
        )
        + "\n"
    ]
    return "\n".join(parts)


def verbs() -> dict[str, argparse.ArgumentParser]:
    """Every verb's own parser, in the order of the help."""
    (choices,) = [action.choices for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(choices)


def section(verb: argparse.ArgumentParser) -> Iterator[str]:
    """Heading, usage, options and examples of one verb."""
    usage = " ".join(verb.format_usage().split()).removeprefix("usage: ").replace(" [-h]", "")
    yield f"## {verb.prog}\n"
    yield f"{verb.description}\n"
    yield f"```text\n{wrapped(usage)}\n```\n"
    if options := [action for action in verb._actions if action.dest != "help"]:
        yield "| option | what |\n|---|---|"
        yield from (f"| {names(action)} | {cell(what(action))} |" for action in options)
        yield ""
    if examples := re.findall(r"^  (braincam .+)$", verb.epilog or "", re.MULTILINE):
        yield "```text\n" + "\n".join(examples) + "\n```\n"


def wrapped(usage: str, width: int = 110) -> str:
    """A usage line in several, broken between options."""
    lines = [""]
    for part in re.findall(r"\[[^\]]*\]|\S+ [A-Z][\w.=]*(?= |$)|\S+", usage):
        if len(lines[-1]) + len(part) > width:
            lines.append("   ")
        lines[-1] += f" {part}" if lines[-1] else part
    return "\n".join(lines)


def names(action: argparse.Action) -> str:
    """How an argument is written."""
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"`{value}{'...' if action.nargs == '+' else ''}`"
    return f"`{', '.join(action.option_strings)}{'' if action.nargs == 0 else f' {value}'}`".replace("|", r"\|")


def what(action: argparse.Action) -> str:
    """What an argument does, whether it is needed, and its default where the help does not say it."""
    text = (action.help or "").replace("%%", "%")
    if action.option_strings and action.required:
        return f"{text} (needed)".strip()
    if action.nargs != 0 and action.default not in (None, [], argparse.SUPPRESS) and "default" not in text:
        return f"{text} (default: {action.default})".strip()
    return text


def cell(text: str) -> str:
    """Text that a table cell can hold."""
    return text.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
