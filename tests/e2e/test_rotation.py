"""Secrets and keys are replaced while callers go on: what is rehearsed here is what docs/rotation.md tells."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from records import Selection
from scripts.service import ROOT, Service
from settings import load_settings
from storage import StorageUnavailable, open_storage
from tests import upstream as fake
from tests.aws import CREDENTIALS
from tests.e2e.cloud import API, Cloud, Send, over_http, through
from tests.e2e.fleet import Callers, Fleet, Round, changed, claims, kid, token_from, used
from tests.e2e.test_one_key import workers
from tests.e2e.test_outbox import until
from tests.e2e.test_service import SECRET, environment, flask
from tests.emulator import Emulator
from tests.events import Answer, Call
from tests.stores import NO_POSTGRESQL, POSTGRESQL_BINARIES, PgServer, end_previous_keys, new_database
from tests.upstream import Reply, Upstream

TTL_SECONDS = 3600
AWS = {**CREDENTIALS, "AWS_CONFIG_FILE": os.devnull}


@pytest.fixture
def unsigned(tmp_path: Path) -> dict[str, str]:
    """A service on a SQLite file, whose signing secrets come from elsewhere."""
    return environment(tmp_path, RATE_LIMIT="", TOKEN_TTL_SECONDS=str(TTL_SECONDS), WEB_CONCURRENCY="2")


def all_replaced(service: Service, workers_before: set[int]) -> bool:
    return not workers_before & set(workers(service))


def key_of(environ: Mapping[str, str]) -> dict[str, Any]:
    return flask(environ, "clients", "create", "rotation", "--scope", "refine")


def test_a_signing_secret_is_replaced_while_callers_go_on(unsigned: dict[str, str], tmp_path: Path) -> None:
    """Three steps, each taken by one service after the other: no call is refused in any mixture of before and after.

    A token that the old secret signed is used until the secret is dropped, which is when such tokens have expired.
    """
    secret = {"JWT_SECRETS": f"old:{SECRET}"}
    client = Round(key_of({**unsigned, **secret})["api_key"])
    fleet = Fleet(unsigned, tmp_path)
    with fleet.running(secret):
        callers = Callers(fleet.balanced, client.api_key)
        with callers.going_on():
            for action in ("add", "sign"):
                assert client.go(fleet.doors) == []
                secret = changed(action, secret)
                for index in range(2):
                    fleet.replace(index, secret)
                    callers.go_round()
                    assert client.go(fleet.doors) == []
        signed = {kid(token) for token in client.tokens}
        assert len(signed) == 2
        assert {claims(token)["exp"] - claims(token)["iat"] for token in client.tokens} == {TTL_SECONDS}

        expired = [token for token in client.tokens if kid(token) == "old"]
        client.tokens = [token for token in client.tokens if kid(token) != "old"]
        callers = Callers(fleet.balanced, client.api_key)
        with callers.going_on():
            secret = changed("drop", secret)
            for index in range(2):
                fleet.replace(index, secret)
                callers.go_round()
                assert client.go(fleet.doors) == []
        assert {kid(token) for token in client.tokens} == {secret["JWT_SECRETS"].partition(":")[0]}
        # The reason to wait: what has not expired is refused now.
        assert {used(door, token).status for door in fleet.doors for token in expired} == {401}


def test_a_secret_that_signs_before_all_know_it_refuses(unsigned: dict[str, str], tmp_path: Path) -> None:
    """The first two steps at once: a token of the service that has restarted is refused by the one that has not."""
    secret = {"JWT_SECRETS": f"old:{SECRET}"}
    client = Round(key_of({**unsigned, **secret})["api_key"])
    fleet = Fleet(unsigned, tmp_path)
    with fleet.running(secret):
        assert client.go(fleet.doors) == []
        fleet.replace(0, changed("sign", changed("add", secret)))
        assert client.go(fleet.doors) == [401]
        assert used(fleet.doors[0], client.tokens[-2]).status == 200
        assert used(fleet.doors[1], client.tokens[-2]).status == 401


def test_a_running_service_takes_up_what_has_changed(unsigned: dict[str, str], tmp_path: Path, moto: str) -> None:
    """Told to reload, gunicorn replaces its workers, which read the secret anew: no call is refused or cut off."""
    manager = boto3.Session("test", "test", region_name=AWS["AWS_DEFAULT_REGION"]).client(
        "secretsmanager", endpoint_url=moto
    )
    name, secret = new_database(), {"JWT_SECRETS": f"old:{SECRET}"}
    manager.create_secret(Name=name, SecretString=json.dumps(secret))
    environ = {**unsigned, **AWS, "AWS_ENDPOINT_URL": moto, "JWT_SECRETS": "", "SECRETS_ID": name}
    client = Round(key_of(environ)["api_key"])
    with Service(environ, tmp_path / "service.log") as service:
        doors = [over_http(service.url)]
        callers = Callers(doors, client.api_key)
        with callers.going_on():
            for action in ("add", "sign"):
                assert client.go(doors) == []
                secret = changed(action, secret)
                manager.put_secret_value(SecretId=name, SecretString=json.dumps(secret))
                replaced = set(workers(service))
                service.process.send_signal(signal.SIGHUP)
                until(partial(all_replaced, service, replaced))
                callers.go_round()
        assert client.go(doors) == []
    assert {kid(token) for token in client.tokens} == {
        pair.partition(":")[0] for pair in secret["JWT_SECRETS"].split(",")
    }


@dataclass
class Stage:
    """A stage's secret in Secrets Manager, and execution environments that read it when they start."""

    cloud: Cloud
    name: str
    manager: Any
    stack: ExitStack

    def hold(self, values: Mapping[str, str]) -> None:
        self.manager.put_secret_value(SecretId=self.name, SecretString=json.dumps(values))

    def held(self) -> dict[str, str]:
        values: dict[str, str] = json.loads(self.manager.get_secret_value(SecretId=self.name)["SecretString"])
        return values

    def change(self, action: str) -> None:
        """As the pipe of docs/rotation.md does, with the AWS command's part done by boto3."""
        self.hold(changed(action, self.held()))
        self.cloud.secrets += [pair.partition(":")[2] for pair in self.held()["JWT_SECRETS"].split(",")]

    def started(self, version: int) -> Send:
        """An environment of the API's function, as a deployment with this `SECRET_VERSION` starts it."""
        changes = {"SECRETS_ID": self.name, "SECRETS_VERSION": str(version)}
        function: Emulator = self.stack.enter_context(self.cloud.function(API, **changes))
        send = through(function)
        assert send(Call("GET", "/health")).status == 200
        return send


@pytest.fixture
def stage(emulation: None, cloud: Cloud) -> Iterator[Stage]:
    cloud.in_order()
    session = boto3.Session("test", "test", region_name=cloud.aws["AWS_REGION"])
    manager = session.client("secretsmanager", endpoint_url=cloud.aws["AWS_ENDPOINT_URL"])
    name = f"klamala/{new_database()}"
    manager.create_secret(Name=name, SecretString=json.dumps({**cloud.settings, "RATE_LIMIT": ""}))
    with ExitStack() as stack:
        yield Stage(cloud, name, manager, stack)


def test_a_signing_secret_is_replaced_on_lambda(stage: Stage) -> None:
    """Environments of before and after each step stand side by side, as during a deployment: none refuses a call."""
    before = stage.started(1)
    client = Round(stage.cloud.caller(before).credentials.api_key)
    for version, action in enumerate(("add", "sign", "drop"), start=2):
        assert client.go([before]) == []
        stage.change(action)
        if action == "drop":
            # Expired by then.
            client.tokens = [token for token in client.tokens if kid(token) != "k1"]
        after = stage.started(version)
        assert client.go([before, after]) == []
        assert client.go([after, before]) == []
        before = after
    (new,) = {kid(token) for token in client.tokens}
    assert stage.held()["JWT_SECRETS"].partition(":")[0] == new
    assert set(stage.held()) == {*stage.cloud.settings, "RATE_LIMIT"}
    stage.cloud.secrets += client.tokens


def test_two_steps_at_once_refuse_on_lambda(stage: Stage) -> None:
    """An environment that started before knows nothing of the secret with which a new one signs."""
    before = stage.started(1)
    client = Round(stage.cloud.caller(before).credentials.api_key)
    stage.change("add")
    stage.change("sign")
    assert client.go([before, stage.started(2)]) == [401]
    stage.cloud.secrets += client.tokens


def accepting(*keys: str) -> Reply:
    """A model's provider that takes these keys and no other."""
    taken = {f"Bearer {key}" for key in keys}
    well, refusal = fake.echo(), fake.status(401)
    return fake.mixed(lambda received: well if received.headers["authorization"] in taken else refusal)


OLD_KEY, NEW_KEY = "sk-canary-old", "sk-canary-new"


def refine(send: Send, api_key: str) -> Answer:
    return send(Call("POST", "/refine-prompt", "", [("X-API-Key", api_key)]).with_json({"prompt": "greet {{name}}"}))


def rehearse_models_key(upstream: Upstream, api_key: str, start: Callable[[str], Send]) -> None:
    """Two that were started with one key each, side by side, while the provider takes both, and afterwards."""
    doors = [start(OLD_KEY), start(NEW_KEY)]
    upstream.script(accepting(OLD_KEY, NEW_KEY))
    first = len(upstream.requests)
    assert [refine(door, api_key).status for door in doors * 2] == [200] * 4
    asked = [received.headers["authorization"] for received in upstream.requests[first:]]
    assert asked == [f"Bearer {OLD_KEY}", f"Bearer {NEW_KEY}"] * 2
    upstream.script(accepting(NEW_KEY))
    assert [refine(door, api_key).status for door in doors] == [502, 200]


def test_the_models_key_is_replaced(unsigned: dict[str, str], tmp_path: Path, upstream: Upstream) -> None:
    """Services with the old and with the new one each use their own, and none fails while the provider takes both."""
    model = {**unsigned, "JWT_SECRETS": f"k1:{SECRET}", "OPENAI_BASE_URL": upstream.url, "OPENAI_MODEL": "gpt-test"}
    with ExitStack() as stack:

        def start(key: str) -> Send:
            log = tmp_path / f"{new_database()}.log"
            return over_http(stack.enter_context(Service({**model, "OPENAI_API_KEY": key}, log)).url)

        rehearse_models_key(upstream, key_of(model)["api_key"], start)


def test_the_models_key_is_replaced_on_lambda(stage: Stage) -> None:
    """So do environments that started before and after it was changed in the secret."""

    def start(key: str) -> Send:
        stage.hold({**stage.held(), "OPENAI_API_KEY": key})
        return stage.started(1 if key == OLD_KEY else 2)

    caller = stage.cloud.caller(stage.started(0))
    rehearse_models_key(stage.cloud.upstream, caller.credentials.api_key, start)


def test_a_clients_key_is_replaced(environ: dict[str, str], tmp_path: Path) -> None:
    """Old and new key get tokens at both services until the grace period ends, then the new one alone does."""
    old = key_of(environ)
    fleet = Fleet(environ, tmp_path)
    with fleet.running({}), closing(open_storage(load_settings(environ).database_url)) as storage:
        assert Round(old["api_key"]).go(fleet.doors) == []
        new = flask(environ, "clients", "rotate", old["client_id"], "--grace-period", "24")
        callers = [Round(old["api_key"]), Round(new["api_key"])]
        for _ in range(2):
            assert [caller.go(fleet.doors) for caller in callers] == [[], []]
        end_previous_keys(storage)
        # The tokens that the old key got stay valid: no new ones come of it.
        assert [caller.go(fleet.doors) for caller in callers] == [[401, 401], []]


def test_a_clients_key_that_leaked_stops_at_once(environ: dict[str, str], tmp_path: Path) -> None:
    """Without a grace period the old key gets no token at either service from that moment on."""
    old = key_of(environ)
    fleet = Fleet(environ, tmp_path)
    with fleet.running({}):
        assert token_from(fleet.doors[0], old["api_key"]).status == 200
        new = flask(environ, "clients", "rotate", old["client_id"])
        assert [token_from(door, old["api_key"]).status for door in fleet.doors] == [401, 401]
        assert [token_from(door, new["api_key"]).status for door in fleet.doors] == [200, 200]


def documented_statements() -> list[str]:
    """What docs/rotation.md has a database do, for the first and for the second user."""
    page = (ROOT / "docs" / "rotation.md").read_text("utf-8")
    return re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(not POSTGRESQL_BINARIES, reason=NO_POSTGRESQL)
def test_the_databases_password_is_replaced(unsigned: dict[str, str], tmp_path: Path, upstream: Upstream) -> None:
    """Services with the first and with the second user work side by side on the first one's tables, then one alone."""
    before, after = documented_statements()
    with PgServer() as server, ExitStack() as stack:
        server.run("CREATE ROLE klamala LOGIN PASSWORD 'old'", "CREATE DATABASE klamala OWNER klamala")
        addresses = [server.url("klamala", user="klamala", password="old")]
        served = {**unsigned, "JWT_SECRETS": f"k1:{SECRET}", "OPENAI_BASE_URL": upstream.url}
        api_key = key_of({**served, "DATABASE_URL": addresses[0]})["api_key"]
        server.run(*before.split("\n"), database="klamala")
        addresses.append(server.url("klamala", user="klamala_b", password="new"))
        services = [
            stack.enter_context(Service({**served, "DATABASE_URL": url}, tmp_path / f"{new_database()}.log"))
            for url in addresses
        ]
        doors = [over_http(service.url) for service in services]
        assert [refine(door, api_key).status for door in doors * 2] == [200] * 4
        services[0].stop()
        server.run(after, database="klamala")
        assert refine(doors[1], api_key).status == 200
        with closing(open_storage(addresses[0])) as refused, pytest.raises(StorageUnavailable):
            refused.ping()
        with closing(open_storage(addresses[1])) as storage:
            storage.initialize()
            assert len(list(storage.every(Selection()))) == 5
            assert len(server.run("SELECT 1 FROM pg_tables WHERE tableowner = 'klamala'", database="klamala")) == 3
