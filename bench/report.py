"""Tables of what was measured, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bench.figures import PEER

_KIB = 1024


def tables(found: Mapping[str, Any]) -> str:
    """Every section that was measured, each with its heading."""
    made: dict[str, Callable[[Any], Iterator[str]]] = {
        "cold": _cold,
        "warm": _warm,
        "memory": _memory,
        "load": _load,
        "litellm": _litellm,
        "pages": _pages,
    }
    parts = [made[section](found[section]) for section in made if section in found]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def table(heading: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table, whose first column is text and whose others are numbers."""
    names = list(columns)
    yield from (f"### {heading}", "", _row(names), _row(["---", *["---:"] * (len(names) - 1)]))
    yield from map(_row, rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _of(spread: Mapping[str, Any], digits: int) -> str:
    lower, upper = spread["quartiles"]
    return f"{spread['median']:.{digits}f} ({lower:.{digits}f}–{upper:.{digits}f})"


def _millions(counted: Mapping[str, int], name: str, peer: str = PEER) -> tuple[str, str]:
    if name not in counted:
        return "", ""
    return f"{counted[name] / 1e6:,.1f}", f"{counted[name] / counted[peer]:.2f}"


def _cold(section: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for each in section:
        columns = ("case", "ms (quartiles)", "ratio (quartiles)", "million instructions", "ratio")
        rows = [
            (name, _of(ms, 0), _of(ms["ratio"], 2), *_millions(each["instructions"], name))
            for name, ms in each["ms"].items()
        ]
        yield from table(f"Start to the first /{each['event'].removesuffix('-1k')}", columns, rows)
        yield ""


def _warm(section: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for each in section:
        columns = ("case", "p50 ms", "CPU ms", "CPU ratio (quartiles)", "million instructions", "ratio")
        rows = [
            (
                name,
                f"{each['p50_ms'][name]['median']:.2f}",
                f"{cpu['median']:.2f}",
                _of(cpu["ratio"], 2),
                *_millions(each["instructions"], name),
            )
            for name, cpu in each["cpu_ms"].items()
        ]
        yield from table(f"A warm refinement of {each['size'].upper()}B", columns, rows)
        yield ""


def _memory(section: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    rows = [
        (name, f"{each['first'] / _KIB:.1f}", f"{(each['last'] - each['first']) / _KIB:.1f}", f"{each['calls']:,}")
        for name, each in section.items()
    ]
    return table("Resident memory", ("case", "MiB after the first answer", "MiB more", "after calls"), rows)


def _load(section: Mapping[str, Any]) -> Iterator[str]:
    columns = ("case", "upstream ms", "at once", "requests/s", "p50 ms", "constant servers' CPU")
    rows = [
        (
            each["case"],
            str(each["upstream_ms"]),
            str(each["concurrency"]),
            f"{each['requests_per_second']:,.0f}",
            f"{each['p50_ms']:.1f}",
            f"{each['servers_cpu']:.0%}",
        )
        for each in section["figures"]
    ]
    yield from table("Behind gunicorn", columns, rows)
    alone = section["capacity"]
    yield ""
    yield (
        f"The constant servers alone, whose client is the limit: {alone['model']:,.0f} answers of the model a second, "
        f"{alone['mongo']:,.0f} commands of MongoDB."
    )


def _litellm(section: Mapping[str, Any]) -> Iterator[str]:
    if "skipped" in section:
        yield from ("### LiteLLM's proxy", "", f"Not measured: {section['skipped']}.")
        return
    memory = section["rss_kib"]
    columns = ("start to the first answer, ms", "warm p50 ms", "CPU ms", "MiB after the first answer", "MiB after 550")
    figures = (f"{section[name]:,.{digits}f}" for name, digits in (("start_ms", 0), ("p50_ms", 2), ("cpu_ms", 2)))
    row = (*figures, *(f"{memory[name] / _KIB:.0f}" for name in ("first", "after")))
    yield from table("LiteLLM's proxy", columns, [row])


def _pages(section: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    columns = ("database", "request", "records", "ms", "CPU ms", "ratio to the fewest (quartiles)")
    rows = []
    for each in section:
        ratio = each["wall_ratio"]
        spread = f"{ratio['of_medians']:.2f} ({ratio['lower']:.2f}–{ratio['upper']:.2f})"
        figures = (f"{each['records']:,}", f"{each['wall_ms']:.2f}", f"{each['cpu_ms']:.2f}")
        rows.append((each["database"], each["request"], *figures, spread))
    return table("A page of 100 records, and a summary", columns, rows)
