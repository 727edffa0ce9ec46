"""The application factory: the one place where the parts are wired together."""

from __future__ import annotations

import logging

from flask import Flask

import edge
import logs
import problems
from auth import Guard, TokenPolicy
from background import courier_for, queue_for
from blueprints.choices import choices_blueprint
from blueprints.console import console_blueprint
from blueprints.docs import docs_blueprint
from blueprints.generate import generate_blueprint
from blueprints.health import health_blueprint
from blueprints.log_request import log_request_blueprint
from blueprints.openapi import openapi_blueprint
from blueprints.refine import refine_blueprint
from blueprints.tokens import tokens_blueprint
from blueprints.usage import usage_blueprint
from calls.generations import Generations
from calls.jobs import Submissions
from calls.ledger import Ledger, storage_reserve
from calls.limits import Limits
from calls.refinements import Refinements
from refinery.engines import Engine
from refinery.opening import ModelEngine, open_engine
from refinery.refiner import Refiner
from refinery.strategies import load_strategies
from settings import Settings, SettingsError, load_settings
from storage import Storage, StorageError, open_storage
from stores.jobs_sqs import SqsJobs
from stores.outbox import Outbox, database_id, open_outbox

VERSION = "0.1.0"


def create_app(
    settings: Settings | None = None, *, storage: Storage | None = None, engine: Engine | None = None
) -> Flask:
    """Build the service from the environment, or from what a test hands over.

    Raises: `SystemExit` with one line that names the setting which is wrong.
    """
    logs.configure()
    try:
        settings = settings or load_settings()
        storage = storage or _open_storage(settings)
        outbox = _open_outbox(settings)
        jobs = _open_jobs(settings)
    except SettingsError as error:
        raise SystemExit(f"klamala: {error}") from error
    if settings.on_lambda:
        logs.configure(settings.function_name)
    else:
        _prepare(storage)
    app = Flask(__name__, static_folder=None)
    # A path with two slashes is not found; werkzeug would answer with a redirect.
    app.url_map.merge_slashes = False
    edge.install(app, settings)
    problems.install(app)

    policy = TokenPolicy(settings.jwt_secrets, settings.jwt_issuer, settings.jwt_audience, settings.token_ttl_seconds)
    guard = Guard(policy, storage)
    refiner = Refiner(engine or open_engine(settings.openai_api_key, settings.openai_base_url), load_strategies())
    ledger = Ledger(storage, outbox, courier_for(app, settings, storage, outbox), storage_reserve(settings))
    limits = Limits(storage, settings.rate_limit, settings.daily_token_budget)
    refinements = Refinements(settings, ledger, refiner, limits)
    queue = queue_for(app, ledger, refinements, outbox, jobs)
    generations = Generations(settings, ledger, refiner.engine, limits)
    app.register_blueprint(health_blueprint(VERSION, storage))
    app.register_blueprint(tokens_blueprint(policy, storage, settings.max_body_bytes))
    submissions = Submissions(settings, ledger, refinements, queue)
    for blueprint in (
        refine_blueprint(settings, guard, limits, refinements, submissions),
        generate_blueprint(settings, guard, limits, generations),
    ):
        if isinstance(refiner.engine, ModelEngine):
            # While the storage is asked for the client and the limits.
            blueprint.before_request(refiner.engine.prime)
        app.register_blueprint(blueprint)
    app.register_blueprint(log_request_blueprint(settings, guard, limits, storage))
    app.register_blueprint(usage_blueprint(guard, storage))
    app.register_blueprint(choices_blueprint(settings, guard, refiner))
    app.register_blueprint(openapi_blueprint(VERSION))
    app.register_blueprint(docs_blueprint())
    app.register_blueprint(console_blueprint())
    if not settings.on_lambda:
        # There is no command line on Lambda, whose cold start would pay for the commands.
        import cli

        # The operator's own refinements are not limited.
        cli.install(app, settings, storage, outbox, policy, Refinements(settings, ledger, refiner, Limits(storage)))
    return app


def _open_storage(settings: Settings) -> Storage:
    try:
        return open_storage(settings.database_url, create=not settings.on_lambda)
    except ValueError as error:
        raise SettingsError("DATABASE_URL", str(error)) from error


def _open_outbox(settings: Settings) -> Outbox:
    try:
        return open_outbox(settings.database_url, settings.data_dir, settings.outbox_queue_url)
    except ValueError as error:
        raise SettingsError("OUTBOX_QUEUE_URL", str(error)) from error


def _open_jobs(settings: Settings) -> SqsJobs | None:
    if settings.jobs_queue_url is None:
        return None
    try:
        return SqsJobs(settings.jobs_queue_url, database_id(settings.database_url))
    except ValueError as error:
        raise SettingsError("JOBS_QUEUE_URL", str(error)) from error


def _prepare(storage: Storage) -> None:
    try:
        storage.prepare()
    except StorageError as error:
        # The service starts all the same: /ready says so, and the first request that finds the storage prepares it.
        logging.getLogger("klamala").warning("storage not ready at start: %s", error)
