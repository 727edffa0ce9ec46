"""`serverless deploy`, `info` and `remove` in an empty AWS account, as moto plays one.

`test_docs_deploy.py` goes the whole way of `docs/deploy.md`: it builds, deploys, calls what is there, and rolls back.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import Build, copy_checkout, serverless
from tests.e2e.account import Account, account, templates

STACK = "klamala-dev"
FUNCTIONS = {"api": "klamala-dev-api", "worker": "klamala-dev-worker"}
# moto passes over these: `test_artifact_template.py` and `test_artifact_monitoring.py` look at them in the template.
UNKNOWN_TO_MOTO = {
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::CloudWatch::Alarm",
    "AWS::Lambda::EventInvokeConfig",
    # Made, and listed without an id.
    "AWS::Lambda::Permission",
    "AWS::S3::BucketPolicy",
}


class Stage:
    """The stage `dev` of an account, and the serverless command in a checkout of its own, which has this build.

    The command deletes what it has deployed: the build itself has to stay.
    """

    def __init__(self, account: Account, build: Build, checkout: Path) -> None:
        self.account = account
        self.build = build
        self._checkout = copy_checkout(checkout)
        shutil.copytree(build.zip.parent, checkout / "built")

    def run(self, command: str, *arguments: str) -> str:
        """Run a command of the framework on the stage, and return what it said."""
        done = serverless(self._checkout, command, "--stage", "dev", *arguments, **self.account.environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def deploy(self) -> str:
        """Bring the archive to the account, without building it again."""
        return self.run("deploy", "--package", "built")

    @property
    def template(self) -> Mapping[str, Any]:
        resources: Mapping[str, Any] = self.build.template["Resources"]
        return resources

    def of_type(self, kind: str) -> set[str]:
        """The logical ids of the template's resources of a type."""
        return {name for name, each in self.template.items() if each["Type"] == kind}

    def uploaded(self) -> dict[str, bytes]:
        return self.account.uploaded(self.account.resources(STACK)["ServerlessDeploymentBucket"])


@pytest.fixture(scope="module")
def stage(x86: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The stage in a new account, deployed once."""
    with account() as empty:
        deployed = Stage(empty, x86, tmp_path_factory.mktemp("stage") / "checkout")
        assert "Service deployed to stack klamala-dev" in deployed.deploy()
        yield deployed


def test_everything_in_the_template_is_made(stage: Stage) -> None:
    """Each of its resources is in the account, but for those that moto does not know, or that nobody asked for."""
    assert stage.account.stacks() == {STACK: "UPDATE_COMPLETE"}
    made = stage.account.resources(STACK)
    wanted = {name: each["Type"] for name, each in stage.template.items() if "Condition" not in each}
    missing = {kind for name, kind in wanted.items() if not made.get(name)}
    assert missing == UNKNOWN_TO_MOTO


def test_queues_are_made(stage: Stage) -> None:
    """Each with the times of the template, and what fails too often goes to the dead-letter queue that is named."""
    made = stage.account.resources(STACK)
    sqs = stage.account.client("sqs")
    for name in stage.of_type("AWS::SQS::Queue"):
        wanted = stage.template[name]["Properties"]
        found = sqs.get_queue_attributes(QueueUrl=made[name], AttributeNames=["All"])["Attributes"]
        assert found["MessageRetentionPeriod"] == str(wanted["MessageRetentionPeriod"])
        if "RedrivePolicy" in wanted:
            letters = made[wanted["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]].rpartition("/")[2]
            policy = json.loads(found["RedrivePolicy"])
            assert policy["deadLetterTargetArn"].endswith(f":{letters}")
            assert int(policy["maxReceiveCount"]) == wanted["RedrivePolicy"]["maxReceiveCount"]
            assert found["VisibilityTimeout"] == str(wanted["VisibilityTimeout"])


def test_functions_are_made(stage: Stage) -> None:
    """With their role, time and memory, and the addresses of the stage's own queues among their settings."""
    made = stage.account.resources(STACK)
    for logical, name in (("ApiLambdaFunction", "api"), ("WorkerLambdaFunction", "worker")):
        wanted, found = stage.template[logical]["Properties"], stage.account.function(FUNCTIONS[name])
        for same in ("Handler", "Runtime", "Timeout", "MemorySize"):
            assert found[same] == wanted[same], same
        assert found["Role"].endswith(f"/{made[wanted['Role']['Fn::GetAtt'][0]]}")
        variables = wanted["Environment"]["Variables"]
        assert found["Environment"]["Variables"] == {
            key: made[value["Ref"]] if isinstance(value, dict) else value for key, value in variables.items()
        }


def test_roles_allow_what_the_template_says(stage: Stage) -> None:
    """Each role has its one policy, with the template's actions, on resources of this account that have an address."""
    iam, made = stage.account.client("iam"), stage.account.resources(STACK)
    for name in stage.of_type("AWS::IAM::Role"):
        (wanted,) = stage.template[name]["Properties"]["Policies"]
        assert iam.list_role_policies(RoleName=made[name])["PolicyNames"] == [wanted["PolicyName"]]
        policy = iam.get_role_policy(RoleName=made[name], PolicyName=wanted["PolicyName"])["PolicyDocument"]
        # moto keeps what a stack's policy is in Python's own notation.
        policy = ast.literal_eval(policy) if isinstance(policy, str) else policy
        assert [each["Action"] for each in policy["Statement"]] == [
            each["Action"] for each in wanted["PolicyDocument"]["Statement"]
        ]
        for statement in policy["Statement"]:
            places = statement["Resource"]
            for place in [places] if isinstance(places, str) else places:
                assert place.startswith("arn:aws:"), place
                assert ":123456789012:" in place


def test_the_queues_and_the_schedule_call_the_worker(stage: Stage) -> None:
    """Its event sources are the two queues, and failed messages are reported one by one; the rule has it as target."""
    made = stage.account.resources(STACK)
    worker = stage.account.function(FUNCTIONS["worker"])["FunctionArn"]
    mappings = stage.account.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    queues = {made[name].rpartition("/")[2] for name in ("JobsQueue", "OutboxQueue")}
    assert {each["EventSourceArn"].rpartition(":")[2] for each in mappings} == queues
    for mapping in mappings:
        assert (mapping["FunctionArn"], mapping["State"]) == (worker, "Enabled")
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    events = stage.account.client("events")
    rules = [rule for rule in events.list_rules()["Rules"] if rule.get("ScheduleExpression")]
    assert [rule["ScheduleExpression"] for rule in rules] == ["rate(1 minute)"]
    (target,) = events.list_targets_by_rule(Rule=rules[0]["Name"])["Targets"]
    assert target["Arn"] == worker


def test_the_archive_arrives_as_it_was_built(stage: Stage) -> None:
    """What lies in the bucket is the build, byte for byte, and both functions are made of it."""
    built = stage.build.zip.read_bytes()
    (archive,) = [content for key, content in stage.uploaded().items() if key.endswith("/klamala.zip")]
    assert archive == built
    digest = base64.b64encode(hashlib.sha256(built).digest()).decode("ascii")
    for name in FUNCTIONS.values():
        assert stage.account.function(name)["CodeSha256"] == digest


def test_info_names_the_functions(stage: Stage) -> None:
    """`serverless info` says what is where."""
    said = stage.run("info")
    for line in (
        "stage: dev",
        "region: eu-central-1",
        f"stack: {STACK}",
        *(f"  {k}: {v}" for k, v in FUNCTIONS.items()),
    ):
        assert line in said


def test_an_unchanged_service_is_not_deployed(stage: Stage) -> None:
    """Nothing is uploaded, and no function changes: who wants new environments has to change something."""
    assert "No changes to deploy" in stage.deploy()
    assert len(templates(stage.uploaded())) == 1


def test_nothing_is_left_of_a_removed_stage(x86: Build, tmp_path: Path) -> None:
    """`serverless remove` deletes the stack with all that is in it: bucket, functions, queues, roles and logs."""
    with account() as empty:
        stage = Stage(empty, x86, tmp_path / "checkout")
        stage.deploy()
        stage.run("remove")
        assert empty.stacks() == {STACK: "DELETE_COMPLETE"}
        assert empty.client("s3").list_buckets()["Buckets"] == []
        assert empty.client("lambda").list_functions()["Functions"] == []
        assert empty.client("lambda").list_event_source_mappings()["EventSourceMappings"] == []
        assert "QueueUrls" not in empty.client("sqs").list_queues()
        assert empty.client("iam").list_roles()["Roles"] == []
        assert empty.client("events").list_rules()["Rules"] == []
        assert empty.client("logs").describe_log_groups()["logGroups"] == []
