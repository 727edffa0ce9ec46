"""What a process does beside answering requests: it applies the outbox, does jobs, and sweeps the log.

gunicorn starts all three in each worker. A command serves no request, and leaves them to the service. On AWS Lambda,
where a process stands still between requests, there is none of them: queues and a schedule call the worker.
"""

from __future__ import annotations

import logging

from flask import Flask

from calls.jobs import JobQueue, JobRunner
from calls.leases import Leases
from calls.ledger import Ledger
from calls.pool import JobPool
from calls.refinements import Refinements
from calls.worker import Worker
from settings import Settings
from storage import Storage
from stores.courier import Courier
from stores.jobs_sqs import SqsJobs
from stores.outbox import Outbox, OutboxError
from stores.outbox_sqs import SqsOutbox
from stores.sweeper import Sweeper

# Their names in `Flask.extensions`, in the order in which they are started.
PARTS = ("courier", "jobs", "sweeper")


def courier_for(app: Flask, settings: Settings, storage: Storage, outbox: Outbox) -> Courier | None:
    """Who applies the outbox, at the first request of a process that is not gunicorn's if an earlier one left some."""
    if settings.on_lambda:
        return None
    courier = app.extensions["courier"] = Courier(outbox, storage)
    app.extensions["sweeper"] = Sweeper(storage)
    first = iter([True])

    @app.before_request
    def start() -> None:
        if next(first, False) and _holds_some(outbox):
            courier.start()

    return courier


def queue_for(app: Flask, ledger: Ledger, refinements: Refinements, outbox: Outbox, jobs: SqsJobs | None) -> JobQueue:
    """Who does jobs: the worker behind the queue, else this process; without gunicorn from the first job on."""
    leases = Leases(ledger)
    runner = JobRunner(ledger, refinements, leases)
    if jobs is None:
        pool = app.extensions["jobs"] = JobPool(leases, runner.run)
        return pool
    if isinstance(outbox, SqsOutbox):
        app.extensions["worker"] = Worker(ledger.storage, outbox, jobs, runner)
    return jobs


def _holds_some(outbox: Outbox) -> bool:
    try:
        return outbox.is_at_hand()
    except OutboxError as error:
        logging.getLogger("klamala").warning("outbox not readable at start: %s", error)
        return False
