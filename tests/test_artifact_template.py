"""The CloudFormation template: what is made on AWS, and what each function may do there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stores.outbox_sqs import LONGEST_PAUSE
from tests.artifacts import Build, serverless

QUEUES = {"JobsQueue": "JobsDeadLetters", "OutboxQueue": "OutboxDeadLetters"}
FOURTEEN_DAYS = 14 * 86_400
GATEWAY_SECONDS = 30


@pytest.fixture
def resources(arm: Build) -> dict[str, Any]:
    """What the template makes, by name."""
    made: dict[str, Any] = arm.template["Resources"]
    return made


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    """The properties of each resource of a type, by name."""
    return {name: each["Properties"] for name, each in resources.items() if each["Type"] == kind}


def strings(value: Any) -> Iterator[str]:
    """Every string inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    """What a role allows."""
    return [each for policy in role["Policies"] for each in policy["PolicyDocument"]["Statement"]]


def allowed(role: dict[str, Any]) -> set[tuple[str, str]]:
    """Pairs of an action and the resource that it is allowed on, its name or its address."""
    pairs = set()
    for statement in statements(role):
        assert statement["Effect"] == "Allow"
        actions, places = statement["Action"], statement["Resource"]
        for action in [actions] if isinstance(actions, str) else actions:
            for place in places if isinstance(places, list) else [places]:
                pairs.add((action, next(strings(place))))
    return pairs


def test_cfn_lint_finds_nothing(arm: Build) -> None:
    """W3005 aside: dependencies that are said twice, which are the framework's."""
    linter = str(Path(sys.executable).with_name("cfn-lint"))
    command = [linter, "--ignore-checks", "W3005", "--", str(arm.template_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_artifact_has_both_functions(resources: dict[str, Any]) -> None:
    """The API and the worker are two entries of one archive, on the runtime that it is made for."""
    functions = of_type(resources, "AWS::Lambda::Function")
    handlers = {name: function["Handler"] for name, function in functions.items()}
    assert handlers == {"ApiLambdaFunction": "wsgi_handler.handler", "WorkerLambdaFunction": "wsgi_handler.work"}
    for function in functions.values():
        assert function["Runtime"] == "python3.13"
        assert function["Architectures"] == ["arm64"]
        assert function["Code"]["S3Key"].endswith("/klamala.zip")
        assert "ReservedConcurrentExecutions" not in function


def test_settings_come_as_environment_variables(resources: dict[str, Any]) -> None:
    """The secret's name, the queues' URLs and the deadlines; no secret value is in the template."""
    for function in of_type(resources, "AWS::Lambda::Function").values():
        assert function["Environment"]["Variables"] == {
            "SECRETS_ID": "klamala/dev",
            "SECRETS_VERSION": "1",
            "JOBS_QUEUE_URL": {"Ref": "JobsQueue"},
            "OUTBOX_QUEUE_URL": {"Ref": "OutboxQueue"},
            "REQUEST_DEADLINE_SECONDS": "25",
            "JOB_DEADLINE_SECONDS": "300",
        }


def test_deadlines_timeouts_and_visibility_fit_together(resources: dict[str, Any]) -> None:
    """A deadline ends before its function, that before the gateway; a message is hidden for six times the worker's."""
    functions = of_type(resources, "AWS::Lambda::Function")
    api, worker = functions["ApiLambdaFunction"], functions["WorkerLambdaFunction"]
    assert int(api["Environment"]["Variables"]["REQUEST_DEADLINE_SECONDS"]) < api["Timeout"] < GATEWAY_SECONDS
    assert int(worker["Environment"]["Variables"]["JOB_DEADLINE_SECONDS"]) < worker["Timeout"] <= 900
    for queue in QUEUES:
        assert resources[queue]["Properties"]["VisibilityTimeout"] >= 6 * worker["Timeout"]


def test_each_queue_has_a_dead_letter_queue(resources: dict[str, Any]) -> None:
    """Encrypted, and what ends there stays for as long as SQS keeps anything."""
    queues = of_type(resources, "AWS::SQS::Queue")
    assert set(queues) == {*QUEUES, *QUEUES.values()}
    assert all(queue["SqsManagedSseEnabled"] is True for queue in queues.values())
    for queue, letters in QUEUES.items():
        assert queues[queue]["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": [letters, "Arn"]}
        assert queues[letters]["MessageRetentionPeriod"] == FOURTEEN_DAYS


def test_the_outbox_outlasts_an_outage(resources: dict[str, Any]) -> None:
    """It keeps 14 days, at least five of them before the dead-letter queue, at most nine: as many are left to look."""
    outbox = resources["OutboxQueue"]["Properties"]
    assert outbox["MessageRetentionPeriod"] == FOURTEEN_DAYS
    offered = LONGEST_PAUSE * outbox["RedrivePolicy"]["maxReceiveCount"]
    assert 5 * 86_400 <= offered <= 9 * 86_400


def test_messages_fail_one_by_one_and_their_number_at_once_is_limited(resources: dict[str, Any]) -> None:
    """The mapping has the limit, not the function: reserved concurrency fails on new accounts."""
    mappings = {
        each["EventSourceArn"]["Fn::GetAtt"][0]: each
        for each in of_type(resources, "AWS::Lambda::EventSourceMapping").values()
    }
    assert set(mappings) == set(QUEUES)
    for mapping in mappings.values():
        assert mapping["FunctionName"] == {"Fn::GetAtt": ["WorkerLambdaFunction", "Arn"]}
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["ScalingConfig"]["MaximumConcurrency"] >= 2
    assert mappings["JobsQueue"]["BatchSize"] == 1


def test_the_sweep_is_scheduled(resources: dict[str, Any]) -> None:
    """Every minute the worker is called, and a failed call is not repeated."""
    (rule,) = of_type(resources, "AWS::Events::Rule").values()
    assert rule["ScheduleExpression"] == "rate(1 minute)"
    assert [target["Arn"] for target in rule["Targets"]] == [{"Fn::GetAtt": ["WorkerLambdaFunction", "Arn"]}]
    (invoked,) = of_type(resources, "AWS::Lambda::EventInvokeConfig").values()
    assert invoked["MaximumRetryAttempts"] == 0


def test_every_path_goes_to_the_api(resources: dict[str, Any]) -> None:
    """One route of the HTTP API, with the payload that the handler is tested with."""
    (route,) = of_type(resources, "AWS::ApiGatewayV2::Route").values()
    (integration,) = of_type(resources, "AWS::ApiGatewayV2::Integration").values()
    assert route["RouteKey"] == "$default"
    assert integration["PayloadFormatVersion"] == "2.0"
    assert integration["IntegrationUri"] == {"Fn::GetAtt": ["ApiLambdaFunction", "Arn"]}


SECRET = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:klamala/dev-??????"


def test_each_function_may_do_what_it_needs_and_no_more(resources: dict[str, Any]) -> None:
    """The API puts messages into the queues, the worker takes them out; each reads one secret, and writes its log."""
    roles = of_type(resources, "AWS::IAM::Role")
    functions = of_type(resources, "AWS::Lambda::Function")
    assert functions["ApiLambdaFunction"]["Role"] == {"Fn::GetAtt": ["ApiRole", "Arn"]}
    assert functions["WorkerLambdaFunction"]["Role"] == {"Fn::GetAtt": ["WorkerRole", "Arn"]}
    assert set(roles) == {"ApiRole", "WorkerRole"}
    assert allowed(roles["ApiRole"]) == {
        ("secretsmanager:GetSecretValue", SECRET),
        ("sqs:SendMessage", "JobsQueue"),
        ("sqs:SendMessage", "OutboxQueue"),
        ("logs:CreateLogStream", "ApiLogGroup"),
        ("logs:PutLogEvents", "ApiLogGroup"),
    }
    taking = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    assert allowed(roles["WorkerRole"]) == {
        ("secretsmanager:GetSecretValue", SECRET),
        *(("sqs:SendMessage", queue) for queue in QUEUES),
        *((action, queue) for action in taking for queue in QUEUES),
        ("sqs:ChangeMessageVisibility", "OutboxQueue"),
        ("logs:CreateLogStream", "WorkerLogGroup"),
        ("logs:PutLogEvents", "WorkerLogGroup"),
    }


def test_no_statement_names_everything(resources: dict[str, Any]) -> None:
    """No action or resource has a star, and Lambda alone takes the roles; in a VPC, and there only, they have the
    one managed policy that it needs."""
    for role in of_type(resources, "AWS::IAM::Role").values():
        assert not [text for statement in statements(role) for text in strings(statement) if "*" in text]
        condition, inside, outside = role["ManagedPolicyArns"]["Fn::If"]
        assert (condition, outside) == ("InVpc", {"Ref": "AWS::NoValue"})
        assert [text.rpartition("/")[2] for text in strings(inside)] == ["AWSLambdaVPCAccessExecutionRole"]
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_functions_are_in_a_vpc_where_subnets_are_named(arm: Build, resources: dict[str, Any]) -> None:
    """Both, in the subnets and security groups that are parameters of the stack, and in none without."""
    named = arm.template["Conditions"]["InVpc"]
    assert named == {"Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "Subnets"}]}, ""]}]}
    for parameter in ("Subnets", "SecurityGroups"):
        assert arm.template["Parameters"][parameter] == {"Type": "CommaDelimitedList", "Default": ""}
    for function in of_type(resources, "AWS::Lambda::Function").values():
        condition, inside, outside = function["VpcConfig"]["Fn::If"]
        assert (condition, outside) == ("InVpc", {"Ref": "AWS::NoValue"})
        assert inside == {"SubnetIds": {"Ref": "Subnets"}, "SecurityGroupIds": {"Ref": "SecurityGroups"}}


def test_logs_end(resources: dict[str, Any]) -> None:
    """The log groups of each function and of the API are made here, and keep 30 days at the stage dev."""
    groups = of_type(resources, "AWS::Logs::LogGroup")
    names = {group["LogGroupName"]: group["RetentionInDays"] for group in groups.values()}
    groups_of = ("/aws/lambda/klamala-dev-api", "/aws/lambda/klamala-dev-worker", "/aws/http-api/klamala-dev")
    assert names == dict.fromkeys(groups_of, 30)


def test_what_a_user_chooses_arrives(arm: Build) -> None:
    """Stage and parameters change the secret, the retention, the sizes, and what is installed."""
    chosen = (
        "database=postgresql",
        "apiMemory=2048",
        "jobsAtOnce=50",
        "secretVersion=2",
        "apiRateLimit=300",
        "alarmEmail=ops@example.com",
    )
    choice = [f"--param={each}" for each in chosen]
    done = serverless(arm.checkout, "print", "--stage", "prod", "--format", "json", *choice)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["provider"]["environment"]["SECRETS_ID"] == "klamala/prod"
    assert shown["provider"]["environment"]["SECRETS_VERSION"] == "2"
    assert shown["provider"]["logRetentionInDays"] == 365
    assert shown["functions"]["api"]["memorySize"] == 2048
    assert shown["functions"]["worker"]["events"][0]["sqs"]["maximumConcurrency"] == 50
    assert shown["custom"]["pythonRequirements"]["fileName"] == "locks/requirements-sql.txt"
    assert shown["resources"]["Parameters"]["AlarmEmail"]["Default"] == "ops@example.com"
    throttled = shown["resources"]["extensions"]["HttpApiStage"]["Properties"]["DefaultRouteSettings"]
    assert {name: int(limit) for name, limit in throttled.items()} == {
        "ThrottlingRateLimit": 300,
        "ThrottlingBurstLimit": 400,
    }
    packages = (arm.checkout / "locks" / "requirements-sql.txt").read_text("utf-8")
    assert re.search(r"^flask==", packages, re.MULTILINE)
    assert re.search(r"^psycopg==", packages, re.MULTILINE)


def test_an_unknown_setting_of_the_framework_is_an_error(arm: Build) -> None:
    """A misspelt property stops every command before anything is made."""
    config = (arm.checkout / "serverless.yml").read_text("utf-8")
    (arm.checkout / "misspelt.yml").write_text(config.replace("    memorySize:", "    memorySise:", 1), "utf-8")
    done = serverless(arm.checkout, "print", "--config", "misspelt.yml")
    assert done.returncode != 0
    assert "unrecognized property 'memorySise'" in done.stdout + done.stderr
