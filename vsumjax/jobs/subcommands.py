"""A command whose subcommands have options of their own, declared as data."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from vsumjax.types import InputError

_EVERYWHERE = ("--help", "--verbose")


class Option:
  """An option, or what a subcommand is given first, as `add_argument` takes it."""

  def __init__(self, name: str, **settings: Any):
    self.name = name
    self.settings = settings

  @property
  def attribute(self) -> str:
    return self.name.removeprefix("--").replace("-", "_")


@dataclasses.dataclass(frozen=True)
class Subcommand:
  """One of a command.

  Attributes:
    name: what the user types.
    told: one line of help.
    options: of this subcommand; others may have the same.
    example: a command line, from the subcommand on.
    run: what does it.
    given: the files that it is about, an argument; None if there are none.
    old: the option that says the same directly behind the command; "" for that of `given`.
  """

  name: str
  told: str
  options: tuple[Option, ...]
  example: str
  run: Callable[[argparse.Namespace], None]
  given: Option | None = None
  old: str = ""

  @property
  def flag(self) -> str:
    """The option that stood for the subcommand before there were any."""
    return self.old or self.given.name

  @property
  def names(self) -> tuple[str, ...]:
    """Of all its options."""
    return (*(option.name for option in self.options), *_EVERYWHERE)


class _Parser(argparse.ArgumentParser):
  """Says what is wrong in one line."""

  def error(self, message: str) -> NoReturn:
    self.exit(2, f"{self.prog}: {message}\n")


def add_subcommands(parser: argparse.ArgumentParser, subcommands: Sequence[Subcommand]) -> None:
  """Adds the subcommands to a command; without one it lists them and exits with status 2."""
  whats = parser.add_subparsers(dest="what", metavar="WHAT", parser_class=_Parser, help="see below")
  width = max(len(each.name) for each in subcommands)
  listed = "\n".join(f"  {each.name:{width}}  {each.told}" for each in subcommands)
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.epilog = f"WHAT is one of:\n{listed}\n\n{parser.prog} WHAT --help shows its options."
  for each in subcommands:
    _add(whats, each, parser.prog)

  def list_them(_: argparse.Namespace) -> NoReturn:
    parser.exit(2, parser.format_help())

  parser.set_defaults(run=list_them)


def _add(whats, each: Subcommand, command: str) -> None:
  parser = whats.add_parser(
    each.name,
    description=each.told[0].upper() + each.told[1:] + ".",
    epilog=f"example:\n  {command} {each.example}",
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  if each.given:
    parser.add_argument(each.given.attribute, **each.given.settings)
  for option in each.options:
    parser.add_argument(option.name, **option.settings)
  verbose = {"action": "store_true", "default": argparse.SUPPRESS}
  parser.add_argument("--verbose", **verbose, help="show logs and tracebacks")
  parser.set_defaults(run=each.run)


def spell_out(command: str, words: Sequence[str], subcommands: Sequence[Subcommand]) -> list[str]:
  """The words behind a command, with the subcommand first where its old option stood for it.

  Raises:
    InputError: no such subcommand, or an option that the subcommand does not have.
  """
  by_name = {each.name: each for each in subcommands}
  chosen, words = _choose(command, list(words), by_name)
  if chosen is None:
    return words
  for word in words:
    _check(command, _full_name(word, subcommands), chosen, subcommands)
  return [chosen.name, *(each for word in words for each in _without(chosen, word, subcommands))]


def _choose(
  command: str, words: list[str], by_name: Mapping[str, Subcommand]
) -> tuple[Subcommand | None, list[str]]:
  """The subcommand and what is left of the words; None for help and the like."""
  if words and not words[0].startswith("-"):
    if words[0] not in by_name:
      raise InputError(f"there is no `{command} {words[0]}`; there are {', '.join(by_name)}")
    return by_name[words[0]], words[1:]
  options = [_full_name(word, by_name.values()) for word in words]
  for each in by_name.values():
    if each.flag in options:
      return each, words
  if any(option not in ("", *_EVERYWHERE) for option in options):
    raise InputError(f"`{command}` needs one of {', '.join(by_name)} before its options")
  return None, words


def _full_name(word: str, subcommands: Iterable[Subcommand]) -> str:
  """The option that a word names, which may be cut short as argparse lets it; "" for a value."""
  if not word.startswith("--") or word == "--":
    return ""
  name = word.partition("=")[0]
  known = {name for each in subcommands for name in (*each.names, each.flag)}
  longer = [each for each in known if each.startswith(name)]
  return longer[0] if len(longer) == 1 else name


def _check(
  command: str, option: str, chosen: Subcommand, subcommands: Sequence[Subcommand]
) -> None:
  if option in ("", *chosen.names, chosen.flag):
    return
  owners = [
    f"`{command} {each.name}`" for each in subcommands if option in (*each.names, each.flag)
  ]
  asked = f"`{command} {chosen.name}`"
  if owners:
    raise InputError(f"{option} belongs to {' and '.join(owners)}, not to {asked}")
  if any(name.startswith(option) for name in chosen.names):
    return  # cut short, or ambiguous, which argparse tells
  near = difflib.get_close_matches(option, chosen.names, n=1)
  hint = f"; did you mean {near[0]}?" if near else f"; see {asked[:-1]} --help`"
  raise InputError(f"{asked} has no option {option}{hint}")


def _without(chosen: Subcommand, word: str, subcommands: Sequence[Subcommand]) -> list[str]:
  """A word, or what is left of the subcommand's old option: the value that follows an "="."""
  if _full_name(word, subcommands) != chosen.flag:
    return [word]
  return [word.partition("=")[2]] if "=" in word else []
