"""What the commands have in common: the parts they work on, how they fail, and how they check what they are given."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from auth import TokenPolicy
from calls.refinements import Refinements
from problems import problem_for
from refinery.engines import EngineError
from settings import Settings
from storage import Storage, StorageError
from stores.outbox import Outbox

INTERRUPTED = 130

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the commands work on; click hands it to each of them."""

    settings: Settings
    storage: Storage
    outbox: Outbox
    policy: TokenPolicy
    refinements: Refinements


class Command(click.Command):
    """A command that stands by itself, and fails as those of a `Group` do."""

    def invoke(self, context: click.Context) -> Any:
        with _failures():
            return super().invoke(context)


class Group(click.Group):
    """A group whose commands end with one line and exit code 1 when the storage, the model or the disk fails."""

    def __init__(self, name: str, text: str, commands: Iterable[click.Command]) -> None:
        super().__init__(name, help=text)
        for command in commands:
            self.add_command(command)

    def invoke(self, context: click.Context) -> Any:
        with _failures():
            return super().invoke(context)


@contextmanager
def _failures() -> Iterator[None]:
    if sys.stdout is None:
        raise click.ClickException("Standard output is closed: there is nowhere to put the result.")
    try:
        yield
    except (StorageError, EngineError) as error:
        problem = problem_for(error)
        raise click.ClickException(f"{problem.title}: {problem.detail}") from error
    except OSError as error:
        _give_up_output()
        # A reader that has seen enough, such as `head`, is told nothing.
        if error.errno == errno.EPIPE:
            raise click.exceptions.Exit(1) from error
        raise click.ClickException(f"Input or output failed: {error.strerror}.") from error
    except KeyboardInterrupt as error:
        click.echo(err=True)  # behind the terminal's "^C"
        raise click.exceptions.Exit(INTERRUPTED) from error


def _give_up_output() -> None:
    """What is left in the buffer of an output that takes no more must not fail again when Python ends."""
    # A test's output has no file descriptor.
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def checked(model: type[M], values: Mapping[str, str | None], options: Mapping[str, str]) -> M:
    """The values that are there as `model`, checked as the API checks them; `options` names each as users know it.

    Raises: `click.BadParameter` for the first that is wrong.
    """
    try:
        return model.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise wrong(options[str(first["loc"][0])], first["msg"]) from None


def wrong(option: str, message: str) -> click.BadParameter:
    """Wrong usage of an option or argument."""
    return click.BadParameter(message, param_hint=option)
