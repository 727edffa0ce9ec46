"""What a page of the audit log and a summary of usage cost with few and with many records: `python -m bench.pages`.

Each is a request through the whole app, in this process and without a socket. The sizes take turns, so that whatever
else the machine does meets them alike.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from statistics import median, quantiles

import click

from .services import Database, Service, Taken, databases, service_on
from .stored import MULTIPLE

SIZES = (10_000, 1_000_000)
ROUNDS, QUICK_ROUNDS = 200, 20
# What takes long is asked less often.
SECONDS, FEWEST_ROUNDS = 20.0, 7


@dataclass(frozen=True)
class Ratio:
    """What a median is of the median with the fewest records, and the quartiles of the same of each round."""

    of_medians: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Figure:
    """A request with so many records stored. Milliseconds are medians; `cpu_ms` leaves a database's server out."""

    database: str
    request: str
    records: int
    rounds: int
    wall_ms: float
    cpu_ms: float
    wall_ratio: Ratio
    cpu_ratio: Ratio


def measure(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> Iterator[Figure]:
    """The figures of each database that is here, as soon as they are known."""
    with tempfile.TemporaryDirectory() as name, _unread_log(), databases(Path(name)) as found:
        for database in found:
            borne = [size for size in sorted(sizes) if database.most is None or size <= database.most]
            yield from _of(database, borne, rounds, Path(name))


@contextmanager
def _unread_log() -> Iterator[None]:
    """The app's log is written and not shown."""
    with Path(os.devnull).open("w", encoding="utf-8") as sink, redirect_stderr(sink):
        yield


def _of(database: Database, sizes: Sequence[int], rounds: int, folder: Path) -> Iterator[Figure]:
    with ExitStack() as stack:
        services = {size: stack.enter_context(service_on(database, size, folder)) for size in sizes}
        for request in services[sizes[0]].requests:
            taken = in_turn(services, request, rounds)
            for size in sizes:
                yield _figure(database.name, request, size, taken)


def in_turn(services: Mapping[int, Service], request: str, rounds: int) -> dict[int, list[Taken]]:
    """What the request took each service, once in each round; who is the first in one is the last in the next."""
    order = list(services)
    for size in order:
        services[size].ask(request)
    taken: dict[int, list[Taken]] = {size: [] for size in order}
    ends = time.monotonic() + SECONDS
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.monotonic() > ends:
            break
        for size in order:
            taken[size].append(services[size].ask(request))
        order.reverse()
    return taken


def ratio(many: Sequence[float], few: Sequence[float]) -> Ratio:
    """Of what was taken in the same rounds."""
    lower, _, upper = quantiles([a / b for a, b in zip(many, few, strict=True)], n=4)
    return Ratio(median(many) / median(few), lower, upper)


def _figure(database: str, request: str, size: int, taken: Mapping[int, Sequence[Taken]]) -> Figure:
    wall, cpu = ({of: [*map(attrgetter(name), taken[of])] for of in taken} for name in ("wall", "cpu"))
    few = min(taken)
    return Figure(
        database,
        request,
        size,
        len(taken[size]),
        median(wall[size]) * 1000,
        median(cpu[size]) * 1000,
        ratio(wall[size], wall[few]),
        ratio(cpu[size], cpu[few]),
    )


def table(figures: Iterable[Figure]) -> Iterator[str]:
    """Lines for a terminal."""
    yield f"{'database':<11}{'request':<29}{'records':>10}{'wall ms':>10}{'CPU ms':>9}   wall ratio (quartiles)"
    for each in figures:
        of = each.wall_ratio
        compared = f"{of.of_medians:.2f} ({of.lower:.2f} to {of.upper:.2f})"
        yield (
            f"{each.database:<11}{each.request:<29}{each.records:>10,}{each.wall_ms:>10.2f}{each.cpu_ms:>9.2f}"
            f"   {compared}"
        )


def _sizes(_context: object, _parameter: object, value: str) -> list[int]:
    try:
        sizes = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter("are numbers, with commas between") from None
    if not all(size > 0 and size % MULTIPLE == 0 for size in sizes):
        raise click.BadParameter(f"are multiples of {MULTIPLE}")
    return sizes


@click.command()
@click.option(
    "--records",
    "sizes",
    callback=_sizes,
    default=",".join(map(str, SIZES)),
    show_default=True,
    help="How many are stored, with commas between.",
)
@click.option("--quick", is_flag=True, help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}.")
def main(sizes: list[int], quick: bool) -> None:
    """Measure pages and summaries on each database that is here, and print the figures."""
    for line in table(measure(sizes, QUICK_ROUNDS if quick else ROUNDS)):
        click.echo(line)


if __name__ == "__main__":
    main()
