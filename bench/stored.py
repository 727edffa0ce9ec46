"""An audit log with many records, made in the database itself: SQLite, PostgreSQL, or a server of MongoDB's wire.

Half of the records are one client's, a thousand are another's, and the rest belong to four hundred. They are spread
over the ninety days before now. What an owner's n-th record holds goes by n alone, and comes again with each hundred: a
page of a hundred has one size wherever it is, and a thousand records come to one usage whatever else is stored.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from pymongo import MongoClient
from sqlalchemy import Dialect, make_url
from sqlalchemy.schema import CreateIndex, DropIndex

from records import Record
from stores.documents import document_of
from stores.tables import requests

DAYS = 90
STEADY_RECORDS = 1000
OTHERS = 400
# The thousand are every so-many-th of the half that is not the large owner's.
MULTIPLE = 2 * STEADY_RECORDS

_MILLISECONDS = DAYS * 24 * 60 * 60 * 1000
_WORDS = "Rewrite the mail to {{name}} about order {{order_id}}, which is late; keep it short, friendly and exact. "
_NOTHING = dict.fromkeys(column.name for column in requests.columns)
_ERROR = {"type": "/problems/model-timeout", "title": "The model did not answer", "status": 504, "detail": "Too late."}


@dataclass(frozen=True)
class Stock:
    """What is stored: so many records, with prompts and responses of `chars` to `chars` + 99 characters, and a detail.

    `large` and `steady` are the ids of the two clients, who made their calls themselves.
    """

    records: int
    large: str
    steady: str
    chars: int = 250

    def __post_init__(self) -> None:
        if self.records < MULTIPLE or self.records % MULTIPLE:
            raise ValueError(f"the number of records must be a multiple of {MULTIPLE}")


@dataclass(frozen=True)
class _Syntax:
    """How a database says what the others say otherwise: numbers `n` below `records`, and what is made of one."""

    dialect: Dialect
    series: str
    moment: str
    digits: str
    json: str


_SQLITE = _Syntax(
    make_url("sqlite://").get_dialect()(),
    "SELECT 0 AS n UNION ALL SELECT n + 1 FROM series WHERE n + 1 < {records}",
    "strftime('%Y-%m-%d %H:%M:%f000', ({since} + n * {step}) / 1000.0, 'unixepoch')",
    "substr('00000000000' || n, -12)",
    "{text}",
)
_POSTGRESQL = _Syntax(
    make_url("postgresql+psycopg://").get_dialect()(),
    "SELECT generate_series(0, {records} - 1) AS n",
    "timestamp 'epoch' + ({since} + n * {step}::bigint) * interval '1 millisecond'",
    "lpad(n::text, 12, '0')",
    "({text})::json",
)


def fill_sqlite(url: str, stock: Stock) -> None:
    """Put the records into a file in which a store has made the tables, and which nobody else has open.

    A crash meanwhile would ruin it.
    """
    with closing(sqlite3.connect(str(make_url(url).database), isolation_level=None)) as connection:
        connection.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY; PRAGMA threads=2;"
            "PRAGMA cache_size=-1000000"
        )
        for statement in _statements(_SQLITE, stock):
            connection.execute(statement)
        connection.execute("PRAGMA journal_mode=WAL")


def fill_postgresql(url: str, stock: Stock) -> None:
    """Put the records into a database in which a store has made the tables. They do not outlive a crash."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem TO '256MB'")
        connection.execute("ALTER TABLE requests SET UNLOGGED")
        for statement in _statements(_POSTGRESQL, stock):
            connection.execute(statement.encode())
        # As the server does by itself, a while later.
        connection.execute("VACUUM ANALYZE requests")


def fill_mongodb(url: str, stock: Stock) -> None:
    """Put the records into a database in which a store has made the indexes."""
    client: MongoClient[dict[str, Any]]
    with MongoClient(url) as client:
        database: Any = client.get_default_database()
        for batch in _batches(stock):
            database.requests.insert_many(batch, ordered=False)


def _batches(stock: Stock) -> Iterator[list[dict[str, Any]]]:
    """The documents, as SQLite makes the rows."""
    columns = _columns(_SQLITE, stock)
    objects, moments = ("detail", "usage", "error"), ("timestamp", "completed_at")
    with closing(sqlite3.connect(":memory:")) as connection:
        rows = connection.execute(_rows(_SQLITE, stock, columns))
        while batch := rows.fetchmany(1000):
            named = [dict(zip(columns, row, strict=True)) for row in batch]
            for values in named:
                values.update({name: json.loads(values[name]) for name in objects if values[name]})
                values.update({name: datetime.fromisoformat(values[name]).replace(tzinfo=UTC) for name in moments})
            yield [document_of(Record.from_dict(_NOTHING | values)) for values in named]


def _statements(syntax: _Syntax, stock: Stock) -> Iterator[str]:
    """An index is made faster of rows that are there than beside them."""
    indexes = sorted(requests.indexes, key=lambda index: str(index.name))
    for index in indexes:
        yield str(DropIndex(index).compile(dialect=syntax.dialect))
    columns = _columns(syntax, stock)
    yield f"INSERT INTO requests ({', '.join(columns)}) {_rows(syntax, stock, columns)}"
    for index in indexes:
        yield str(CreateIndex(index).compile(dialect=syntax.dialect))


def _rows(syntax: _Syntax, stock: Stock, columns: dict[str, str]) -> str:
    every = stock.records // MULTIPLE
    return f"""
        WITH RECURSIVE series AS ({syntax.series.format(records=stock.records)}),
        owned AS (
            SELECT n, CASE WHEN n % 2 = 1 AND n / 2 % {every} = 0 THEN n / 2 / {every} ELSE n / 2 END AS own, CASE
                WHEN n % 2 = 0 THEN '{stock.large}'
                WHEN n / 2 % {every} = 0 THEN '{stock.steady}'
                ELSE 'klm_' || (n / 2 % {OTHERS})
            END AS owner
            FROM series
        )
        SELECT {", ".join(columns.values())} FROM owned"""  # noqa: S608 - names and numbers of our own


def _detail(text: str) -> dict[str, Any]:
    return {
        "strategy": "general",
        "refined": True,
        "changes": [{"reason": text, "before": text, "after": text}],
        "assumptions": [text],
        "integrity": {"ok": True, "attempts": 1, "placeholders": {"kept": ["{{name}}"], "lost": [], "added": []}},
    }


def _columns(syntax: _Syntax, stock: Stock) -> dict[str, str]:
    """What makes each column's value of a record's number, its owner and its number with its owner."""
    words = _WORDS * (stock.chars // len(_WORDS) + 2)
    since = datetime.now(UTC) - timedelta(days=DAYS)
    numbers = {"since": int(since.timestamp() * 1000), "step": _MILLISECONDS // stock.records}
    text = f"substr('{words}', 1, {stock.chars} + own % 100)"
    failed, reported = "own % 20 = 0", "own % 10 = 9"
    usage = """'{"input_tokens": ' || (100 + own % 50) || ', "output_tokens": ' || (50 + own % 25) || '}'"""
    moment = syntax.moment.format(**numbers)
    return {
        "id": f"'00000000-0000-7000-8000-' || {syntax.digits}",
        "v": "1",
        "kind": f"CASE WHEN {reported} THEN 'client' WHEN own % 5 = 3 THEN 'generate' ELSE 'refine' END",
        "source": f"CASE WHEN {reported} THEN 'client' ELSE 'server' END",
        "status": f"CASE WHEN {failed} THEN 'failed' ELSE 'succeeded' END",
        "user_id": "owner",
        "client_id": "owner",
        "request_id": f"'request-' || {syntax.digits}",
        "prompt": text,
        "response": f"CASE WHEN NOT {failed} THEN {text} END",
        "detail": syntax.json.format(text=f"'{json.dumps(_detail(words[: stock.chars // 4]))}'"),
        "model": "'gpt-' || (own % 4)",
        "engine": f"CASE WHEN NOT {reported} THEN 'openai' END",
        "usage": f"CASE WHEN NOT {failed} AND NOT {reported} THEN {syntax.json.format(text=usage)} END",
        "error": f"CASE WHEN {failed} THEN {syntax.json.format(text=repr(json.dumps(_ERROR)))} END",
        "latency_ms": f"CASE WHEN NOT {reported} THEN 1000 + own % 100 * 10 END",
        "timestamp": moment,
        "completed_at": moment,
        "attempt": "1",
    }
