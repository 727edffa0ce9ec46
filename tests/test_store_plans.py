"""What is read to find a few of 100,000 records: about as many as are found, whichever they are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from records import Kind, Owner, Position, Record, Selection, Status
from storage import Storage, open_storage
from stores.documents import FREE_LONGEST_FIRST, NEWEST_FIRST, free_jobs, query_for
from stores.mongo import MongoStorage
from stores.sql import SqlStorage
from stores.tables import requests
from tests.stores import (
    NO_MONGODB,
    REAL_MONGODB,
    Backend,
    PgServer,
    at_url,
    bulk,
    in_mongodb,
    in_postgresql,
    job,
    pending,
    sqlite_url,
)

RECORDS = 100_000
LIMIT = 20
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
# Three records a moment: seventy days.
EVERY = timedelta(minutes=3)
NOW = NOON + RECORDS // 3 * EVERY
FAR = NOW + timedelta(days=1)
LARGE = Owner("klm_large", "user-1")
# Half of all records for half of the time, and none since.
DORMANT = Owner("klm_dormant", "user-1")
# Has what is rare with others, but for its oldest records.
CONTRARY = Owner("klm_contrary", "user-1")
# One of a thousand users of the large client.
SMALL = Owner(LARGE.client_id, "user-6")
OWNERS = (LARGE, DORMANT, CONTRARY, SMALL)
PARENT = "00000000-0000-7000-8000-000000000000"
RARE: dict[str, Any] = {"kind": Kind.GENERATE, "status": Status.FAILED, "model": "gpt-rare", "parent_id": PARENT}
COMMON: dict[str, Any] = {"kind": Kind.REFINE, "status": Status.SUCCEEDED, "model": "gpt-1"}


def rows() -> Iterator[dict[str, Any]]:
    """The rows of the table, oldest first.

    What is rare with an owner is among their oldest: whoever goes through their records from the newest on to find it
    reads all of them. What one owner has rarely another has often, and no statistics of a column tell of that.
    """
    template = pending(NOON, deadline_at=None, **COMMON).as_dict()
    template |= {"parent_id": None, "usage": {"input_tokens": 3, "output_tokens": 5}, "latency_ms": 10}
    seen = {owner: count() for owner in OWNERS}
    for number in range(RECORDS):
        owner = owner_of(number)
        row = {**template, "id": f"{number:08x}-0000-7000-8000-{number:012x}", "timestamp": NOON + number // 3 * EVERY}
        row |= {"client_id": owner.client_id, "user_id": owner.user_id}
        if number % 10 == 0:
            row |= {"parent_id": f"{number:08x}-0000-7000-8000-000000000000"}
        if owner in seen:
            row |= values_of(owner, next(seen[owner]))
        if row["status"] is Status.PENDING:
            row |= {"deadline_at": NOW, "latency_ms": None, "usage": None}
        row |= {"expires_at": NOW if number < 300 else NOW + timedelta(days=number % 90 + 1)}
        yield row


def owner_of(number: int) -> Owner:
    if number < RECORDS // 2 and number % 2:
        return DORMANT if number % 50 else Owner(DORMANT.client_id, "user-2")
    if number % 24 < 4:
        return CONTRARY if number % 24 < 3 else Owner(f"klm_{number % 101}", "user-1")
    return LARGE if number % 3 else Owner(LARGE.client_id, f"user-{number % 997 + 2}")


def values_of(owner: Owner, index: int) -> dict[str, Any]:
    """Thirty records with each rare value, one after the other; then a few that were left pending."""
    usual, unusual = ({**RARE, "parent_id": None}, COMMON) if owner == CONTRARY else ({}, RARE)
    name = dict(enumerate(unusual)).get(index // 30)
    if name:
        return {**usual, name: unusual[name]}
    return {"status": Status.PENDING} if index // 30 == len(RARE) and index % 3 == 0 else usual


# A selection, and where its page begins.
Case = tuple[Selection, Position | None]


def cases() -> dict[str, Case]:
    """What pages are asked for, by name: of a user, of a client, of all; with each single filter; deep inside."""
    deep = Position(NOON + RECORDS // 9 * EVERY, f"{RECORDS // 3:08x}")
    day = {"since": NOON + timedelta(days=20), "until": NOON + timedelta(days=21)}
    narrowed: dict[str, dict[str, Any]] = {
        "": {},
        **{f", rare {name}": {name: value} for name, value in RARE.items()},
        **{f", common {name}": {name: value} for name, value in COMMON.items()},
        ", from": {"since": day["since"]},
        ", to": {"until": day["until"]},
        ", a day": day,
        ", long": {"since": NOON, "until": NOW},
    }
    whose: dict[str, dict[str, str]] = {}
    for owner in OWNERS:
        whose[f"{owner.client_id}'s {owner.user_id}"] = asdict(owner)
        whose[owner.client_id] = {"client_id": owner.client_id}
    asked: dict[str, Case] = {"all": (Selection(), None), "all, deep": (Selection(), deep)}
    for (who, own), (how, narrow) in product(whose.items(), narrowed.items()):
        for where, after in (("", None), (", deep", deep)):
            asked[f"{who}{how}{where}"] = (Selection(**{**own, **narrow}), after)
    return asked


CASES = cases()
COLUMNS = [column.name for column in requests.columns]
Statements = list[tuple[str, Any]]


def values(row: dict[str, Any], moment: Callable[[datetime], Any]) -> list[Any]:
    """A row's values in the order of the columns, as a driver takes them."""

    def value(of: Any) -> Any:
        if isinstance(of, datetime):
            return moment(of)
        return json.dumps(of) if isinstance(of, dict) else of

    return [value(row[name]) for name in COLUMNS]


def statements_of(store: SqlStorage, use: Callable[[], object]) -> Statements:
    """What is asked of the database by that use of the store."""
    asked: Statements = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            asked.append((statement, parameters))

    engine = store._database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        use()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return asked


def page_statements(store: SqlStorage) -> dict[str, Statements]:
    """The statement of each page."""
    return {
        name: statements_of(store, partial(store._page, selection, LIMIT, after))
        for name, (selection, after) in CASES.items()
    }


def bulk_statements(backend: Backend) -> dict[str, Statements]:
    """The statements that sweep and erase, gathered on a store with a record for each."""
    store = backend.open(clock=lambda: NOW)
    assert isinstance(store, SqlStorage)
    store.prepare()
    own = asdict(DORMANT)
    bulk(store, [pending(NOON, **own), pending(NOON, expires_at=NOW, deadline_at=None, **own), pending(NOON, **own)])
    uses: dict[str, Callable[[], object]]
    uses = {"abandon": store.abandon_overdue, "expire": store.delete_expired, "erase": partial(store.erase, DORMANT)}
    gathered = {name: statements_of(store, use) for name, use in uses.items()}
    assert {name: len(asked) for name, asked in gathered.items()} == dict.fromkeys(uses, 3)
    return gathered


DAY = {"since": NOON + timedelta(days=40), "until": NOON + timedelta(days=41)}
USAGE = {
    "a user's day": Selection(**asdict(LARGE), **DAY),  # type: ignore[arg-type]
    "a small user's day": Selection(**asdict(SMALL), **DAY),  # type: ignore[arg-type]
    "a client's day": Selection(client_id=LARGE.client_id, **DAY),  # type: ignore[arg-type]
    "a dormant client's day": Selection(client_id=DORMANT.client_id, **DAY),  # type: ignore[arg-type]
}


def usage_statements(store: SqlStorage) -> dict[str, Statements]:
    """The statement of each usage."""
    return {name: statements_of(store, partial(store.usage, selection)) for name, selection in USAGE.items()}


def calls(store: Storage, name: str) -> int:
    """How many calls a usage adds up."""
    return sum(line.calls for line in store.usage(USAGE[name]))


QUEUED = 5000
FREE_AMONG_LEASED = 10
ONE_HOUR = timedelta(hours=1)


def queue(name: str) -> list[Record]:
    """Jobs that came in before now: all of them are free, or all but the last ones are leased for the next hour."""
    jobs = [job(NOW - ONE_HOUR + number * timedelta(milliseconds=500), deadline_at=FAR) for number in range(QUEUED)]
    leased = QUEUED - FREE_AMONG_LEASED if name == "most are leased" else 0
    return [*(replace(each, lease_until=NOW + ONE_HOUR, attempt=1) for each in jobs[:leased]), *jobs[leased:]]


queues = pytest.mark.parametrize("name", ["all are free", "most are leased"])


def job_statements(store: SqlStorage) -> dict[str, Statements]:
    """The statements that look for any free job and for one by its id, lease, renew and abandon one."""
    absent = job(NOW)
    return {
        "any": statements_of(store, partial(store._free_job, NOW, None)),
        "one": statements_of(store, partial(store._free_job, NOW, absent.id)),
        "lease": statements_of(store, partial(store._lease, absent, FAR, NOW)),
        "renew": statements_of(store, partial(store.renew, absent, FAR)),
        "abandon": statements_of(store, partial(store._abandon, absent.id, NOW)),
    }


def work(store: SqlStorage) -> int:
    """Lease jobs, as many as 300. Returns how many were free."""
    return sum(store.lease(FAR) is not None for _ in range(300))


# SQLite


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStorage]:
    path = tmp_path_factory.mktemp("plans") / "store.sqlite3"
    with closing(open_storage(sqlite_url(path), clock=lambda: NOW)) as store:
        assert isinstance(store, SqlStorage)
        store.prepare()
        fill_sqlite(path)
        yield store


def fill_sqlite(path: Path) -> None:
    def text(moment: datetime) -> str:
        return f"{moment.replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}"

    marks = ", ".join("?" * len(COLUMNS))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous=OFF")
        statement = f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({marks})"  # noqa: S608 - names of our own
        connection.executemany(statement, (values(row, text) for row in rows()))


@pytest.fixture
def plain(sqlite: SqlStorage) -> Iterator[sqlite3.Connection]:
    """The file without SQLAlchemy; what a test changes in it is rolled back."""
    with closing(sqlite3.connect(str(sqlite._database.engine.url.database))) as connection:
        yield connection
        connection.rollback()


# What SQLite's machine takes for a row of so many columns, with some to spare: it takes 38.
STEPS_A_ROW = 60


def steps(connection: sqlite3.Connection, statement: str, parameters: Any) -> tuple[int, int]:
    """How many steps the statement takes SQLite's virtual machine, and how many rows it gives."""
    taken = count()
    connection.set_progress_handler(lambda: next(taken) < 0, 1)
    found = len(connection.execute(statement, parameters).fetchall())
    connection.set_progress_handler(None, 0)
    return next(taken), found


def sqlite_plan(connection: sqlite3.Connection, statement: str, parameters: Any) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


def test_sqlite_reads_what_a_page_shows(sqlite: SqlStorage, plain: sqlite3.Connection) -> None:
    """A page's rows come in the order of an index, and take no more steps than that many rows do."""
    wrong = {}
    for name, ((statement, parameters),) in page_statements(sqlite).items():
        plan = sqlite_plan(plain, statement, parameters)
        taken, found = steps(plain, statement, parameters)
        whole = (
            "SCAN requests USING INDEX requests_by_time" if name == "all" else "SEARCH requests USING INDEX requests_by"
        )
        if len(plan) != 1 or not plan[0].startswith(whole) or taken > STEPS_A_ROW * (found + 1):
            wrong[name] = (taken, found, plan)
    assert wrong == {}


def test_sqlite_reads_what_a_usage_adds_up(sqlite: SqlStorage, plain: sqlite3.Connection) -> None:
    """To add up a day's calls takes as many steps as those calls do."""
    for name, ((statement, parameters),) in usage_statements(sqlite).items():
        taken, _ = steps(plain, statement, parameters)
        assert taken <= STEPS_A_ROW * (calls(sqlite, name) + 10), name


def test_sqlite_sweeps_and_erases_by_an_index(sqlite: SqlStorage, plain: sqlite3.Connection, tmp_path: Path) -> None:
    """What is overdue, expired or an owner's is looked for by an index, and changed by its id."""
    with closing(at_url("sqlite", sqlite_url(tmp_path / "small.sqlite3"))) as small:
        gathered = bulk_statements(small)
    for name, asked in gathered.items():
        for statement, parameters in asked:
            plan = sqlite_plan(plain, statement, parameters)
            assert [step for step in plan if "SCAN" in step or "B-TREE" in step] == [], (name, plan)


@queues
def test_sqlite_looks_for_a_job_by_an_index(sqlite: SqlStorage, name: str, tmp_path: Path) -> None:
    """To find the next free job costs as many steps as one row does, whatever the queue; so after leasing."""
    path = tmp_path / "queue.sqlite3"
    with (
        closing(sqlite3.connect(str(sqlite._database.engine.url.database))) as source,
        closing(sqlite3.connect(path)) as copy,
    ):
        source.backup(copy)
    with (
        closing(open_storage(sqlite_url(path), clock=lambda: NOW)) as store,
        closing(sqlite3.connect(path)) as connection,
    ):
        assert isinstance(store, SqlStorage)
        store.prepare()
        bulk(store, queue(name))
        assert_sqlite_looks_by_an_index(store, connection)
        assert work(store) == (FREE_AMONG_LEASED if name == "most are leased" else 300)
        assert_sqlite_looks_by_an_index(store, connection)


def assert_sqlite_looks_by_an_index(store: SqlStorage, connection: sqlite3.Connection) -> None:
    for name, ((statement, parameters),) in job_statements(store).items():
        (plan,) = sqlite_plan(connection, statement, parameters)
        assert ("requests_jobs (lease_until" if name == "any" else "autoindex_requests_1 (id=?)") in plan, (name, plan)
        taken, found = steps(connection, statement, parameters)
        connection.rollback()
        assert taken <= STEPS_A_ROW * (found + 1), (name, taken, found)


# PostgreSQL


@pytest.fixture(scope="module")
def on_postgresql(postgresql: PgServer) -> Iterator[SqlStorage]:
    with in_postgresql(postgresql) as backend:
        store = backend.open(clock=lambda: NOW)
        assert isinstance(store, SqlStorage)
        store.prepare()
        with psycopg.connect(backend.url) as connection:
            # Statistics are the test's to gather.
            connection.execute("ALTER TABLE requests SET (autovacuum_enabled = off)")
            with connection.cursor().copy(f"COPY requests ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                for row in rows():
                    copy.write_row(values(row, lambda moment: moment.replace(tzinfo=None)))
        yield store


@pytest.fixture(params=["no statistics", "statistics"])
def planned(request: pytest.FixtureRequest, on_postgresql: SqlStorage) -> SqlStorage:
    """The store before the server has looked at what is in its table, and after."""
    if request.param == "statistics":
        with on_postgresql._database.engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE requests")
    return on_postgresql


def explained(store: SqlStorage, statement: str, parameters: Any) -> list[dict[str, Any]]:
    """The steps of the statement's plan, the last one first, with what each did; changes are rolled back."""
    engine = store._database.engine.execution_options(isolation_level="READ COMMITTED")
    with engine.connect() as connection:
        told = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
        ).scalar_one()
        connection.rollback()
    found, steps_of_plan = [told[0]["Plan"]], []
    while found:
        step = found.pop(0)
        steps_of_plan.append(step)
        found += step.get("Plans", [])
    return steps_of_plan


def removed(plan: list[dict[str, Any]]) -> int:
    """How many rows were read and not wanted."""
    return sum(step.get("Rows Removed by Filter", 0) for step in plan)


def summary(plan: list[dict[str, Any]]) -> list[str]:
    return [f"{step['Node Type']} {step.get('Index Name', '')}".strip() for step in plan]


def test_postgresql_reads_what_a_page_shows(planned: SqlStorage) -> None:
    """A page's rows come in the order of an index, hardly any is read in vain, and of no more blocks than they fill."""
    wrong = {}
    for name, ((statement, parameters),) in page_statements(planned).items():
        plan = explained(planned, statement, parameters)
        blocks = plan[0]["Shared Hit Blocks"] + plan[0]["Shared Read Blocks"]
        kinds = [step["Node Type"] for step in plan]
        if kinds != ["Limit", "Index Scan"] or removed(plan) > LIMIT // 2 or blocks > LIMIT + 10:
            wrong[name] = (removed(plan), blocks, summary(plan))
    assert wrong == {}


def test_postgresql_reads_what_a_usage_adds_up(planned: SqlStorage) -> None:
    """To add up a day's calls hardly any other is read."""
    for name, ((statement, parameters),) in usage_statements(planned).items():
        plan = explained(planned, statement, parameters)
        assert [step for step in summary(plan) if "Seq" in step] == []
        assert removed(plan) <= calls(planned, name) // 2, (name, summary(plan))


def test_postgresql_sweeps_and_erases_by_an_index(planned: SqlStorage, postgresql: PgServer) -> None:
    """What is overdue, expired or an owner's is looked for by an index, and changed by its id."""
    with in_postgresql(postgresql) as small:
        gathered = bulk_statements(small)
    for name, asked in gathered.items():
        for statement, parameters in asked:
            plan = explained(planned, statement, parameters)
            assert [step for step in summary(plan) if "Seq" in step] == [], (name, summary(plan))
            assert removed(plan) == 0, (name, summary(plan))


@queues
def test_postgresql_looks_for_a_job_by_an_index(on_postgresql: SqlStorage, postgresql: PgServer, name: str) -> None:
    """To find the next free job one row is read, and none in vain, whatever the queue; so after leasing."""
    on_postgresql.close()
    with in_postgresql(postgresql, on_postgresql._database.engine.url.database) as backend:
        store = backend.open(clock=lambda: NOW)
        assert isinstance(store, SqlStorage)
        store.prepare()
        bulk(store, queue(name))
        assert_postgresql_looks_by_an_index(store)
        postgresql.run("ANALYZE requests", database=str(store._database.engine.url.database))
        assert_postgresql_looks_by_an_index(store)
        assert work(store) == (FREE_AMONG_LEASED if name == "most are leased" else 300)
        assert_postgresql_looks_by_an_index(store)


def assert_postgresql_looks_by_an_index(store: SqlStorage) -> None:
    for name, ((statement, parameters),) in job_statements(store).items():
        plan = explained(store, statement, parameters)
        (index,) = {step["Index Name"] for step in plan if step["Node Type"] == "Index Scan"}
        assert index == ("requests_jobs" if name == "any" else "requests_pkey"), (name, summary(plan))
        assert {step["Node Type"] for step in plan} <= {"Limit", "Index Scan", "ModifyTable"}, (name, summary(plan))
        blocks = plan[0]["Shared Hit Blocks"] + plan[0]["Shared Read Blocks"]
        assert (removed(plan), blocks < LIMIT) == (0, True), (name, blocks, summary(plan))


# MongoDB


@pytest.fixture(scope="module")
def on_mongodb() -> Iterator[MongoStorage]:
    if not REAL_MONGODB:
        pytest.skip(NO_MONGODB)
    with in_mongodb() as backend:
        store = backend.open(clock=lambda: NOW)
        assert isinstance(store, MongoStorage)
        store.prepare()
        documents = []
        for row in rows():
            parent = row.pop("parent_id")
            # Not expired yet: MongoDB deletes by itself.
            documents.append({**row, "_id": row["id"], "detail": {"parent_id": parent}, "expires_at": None})
        store._requests.insert_many(documents, ordered=False)
        yield store
        backend.close()


def test_mongodb_reads_what_a_page_shows(on_mongodb: MongoStorage) -> None:
    """A page's documents come in the order of an index, and hardly any is read in vain."""
    wrong = {}
    for name, (selection, after) in CASES.items():
        found = on_mongodb._requests.find(query_for(selection, after)).sort(NEWEST_FIRST).limit(LIMIT)
        told = found.explain()
        examined = told["executionStats"]["totalDocsExamined"]
        plan = json.dumps(told["queryPlanner"]["winningPlan"], default=str)
        if examined > told["executionStats"]["nReturned"] + LIMIT // 2 or "COLLSCAN" in plan or '"SORT"' in plan:
            wrong[name] = (examined, plan)
    assert wrong == {}


@queues
def test_mongodb_looks_for_a_job_by_an_index(name: str) -> None:
    """To find the next free job one document is read, by the index of jobs, whatever the queue."""
    if not REAL_MONGODB:
        pytest.skip(NO_MONGODB)
    with in_mongodb() as backend, closing(backend.open(clock=lambda: NOW)) as store:
        assert isinstance(store, MongoStorage)
        store.prepare()
        bulk(store, [*queue(name), *(pending(NOW - ONE_HOUR, deadline_at=FAR) for _ in range(QUEUED))])
        told = store._requests.find(free_jobs(NOW, None)).sort(FREE_LONGEST_FIRST).limit(1).explain()
        assert told["executionStats"]["totalDocsExamined"] == told["executionStats"]["nReturned"] == 1
        plan = json.dumps(told["queryPlanner"]["winningPlan"], default=str)
        assert '"indexName": "jobs"' in plan
        assert '"SORT"' not in plan
