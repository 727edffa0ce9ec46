"""The CloudFormation template: what API Gateway lets through and writes down, alarms, and the dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from metrics import NAMESPACE, UNITS
from tests.artifacts import Build
from tests.test_artifact_template import of_type
from tests.test_docs import named, rows, sections

PAGE = "docs/operations.md"
# What AWS sends without being asked, and by which dimensions. https://docs.aws.amazon.com:
# /apigateway/latest/developerguide/http-api-metrics.html, /lambda/latest/dg/monitoring-metrics-types.html,
# /AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
SENT = {
    "AWS/ApiGateway": (("ApiId", "Stage"), {"Count", "4xx", "5xx", "Latency", "IntegrationLatency", "DataProcessed"}),
    "AWS/Lambda": (("FunctionName",), {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"}),
    "AWS/SQS": (
        ("QueueName",),
        {
            "ApproximateAgeOfOldestMessage",
            "ApproximateNumberOfMessagesVisible",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        },
    ),
    NAMESPACE: (("FunctionName",), set(UNITS)),
}
OF_TYPE = {
    "ApiId": "AWS::ApiGatewayV2::Api",
    "FunctionName": "AWS::Lambda::Function",
    "QueueName": "AWS::SQS::Queue",
}
OPERATORS = {"GreaterThanThreshold": ">", "GreaterThanOrEqualToThreshold": "≥", "LessThanThreshold": "<"}


@pytest.fixture
def resources(arm: Build) -> dict[str, Any]:
    made: dict[str, Any] = arm.template["Resources"]
    return made


@pytest.fixture
def alarms(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The alarms by their name, without service and stage."""
    found = of_type(resources, "AWS::CloudWatch::Alarm").values()
    return {alarm["AlarmName"].removeprefix("klamala-dev-"): alarm for alarm in found}


@pytest.fixture
def widgets(resources: dict[str, Any]) -> list[dict[str, Any]]:
    """What the dashboard shows; names of resources stand in it as CloudFormation replaces them."""
    (dashboard,) = of_type(resources, "AWS::CloudWatch::Dashboard").values()
    body = json.loads(dashboard["DashboardBody"]["Fn::Sub"])
    assert isinstance(body["widgets"], list)
    return list(body["widgets"])


def stage_of(resources: dict[str, Any]) -> dict[str, Any]:
    (stage,) = of_type(resources, "AWS::ApiGatewayV2::Stage").values()
    assert isinstance(stage, dict)
    return stage


def watched(alarm: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The metrics of an alarm, each with its statistic and its period."""
    if "Metrics" not in alarm:
        yield {**alarm, "Stat": alarm.get("Statistic") or alarm["ExtendedStatistic"]}
    for each in alarm.get("Metrics", []):
        if "MetricStat" in each:
            yield {**each["MetricStat"]["Metric"], **each["MetricStat"]}


def test_the_stage_is_throttled(resources: dict[str, Any]) -> None:
    """All callers together are held to a rate, and to a burst that is more than one second of it."""
    throttled = stage_of(resources)["DefaultRouteSettings"]
    assert throttled == {"ThrottlingRateLimit": 20, "ThrottlingBurstLimit": 40}


def test_the_access_log_is_json_of_what_is_no_secret(resources: dict[str, Any]) -> None:
    """Each field is quoted, and none is what a caller wrote: a header, a query, a path."""
    settings = stage_of(resources)["AccessLogSettings"]
    assert settings["DestinationArn"] == {"Fn::GetAtt": ["HttpApiLogGroup", "Arn"]}
    written = json.loads(settings["Format"])
    assert written["requestId"] == "$context.requestId"
    assert set(written.values()) == {
        "$context.requestId",
        "$context.requestTimeEpoch",
        "$context.identity.sourceIp",
        "$context.httpMethod",
        "$context.routeKey",
        "$context.protocol",
        "$context.status",
        "$context.responseLength",
        "$context.responseLatency",
        "$context.integrationLatency",
        "$context.integrationStatus",
        "$context.integrationErrorMessage",
        "$context.integration.requestId",
        "$context.error.responseType",
    }
    assert list(written) == [name for row in rows(PAGE, "### API Gateway's line") for name in named(row[0])]


def test_an_alarm_tells_somebody(arm: Build, alarms: dict[str, dict[str, Any]], resources: dict[str, Any]) -> None:
    """When it rings and when it ends, one topic is told, and who gave an address is written to."""
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "AlarmsTopic"}]
    mail = resources["AlarmsEmail"]
    assert mail["Properties"]["TopicArn"] == {"Ref": "AlarmsTopic"}
    assert mail["Condition"] == "AlarmEmailIsGiven"
    given = arm.template["Conditions"]["AlarmEmailIsGiven"]
    assert given == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmEmail"}, ""]}]}
    assert arm.template["Parameters"]["AlarmEmail"] == {"Type": "String", "Default": ""}


def test_an_alarm_watches_what_is_there(alarms: dict[str, dict[str, Any]], resources: dict[str, Any]) -> None:
    """Each metric is one that AWS or the service sends, by its dimensions, of a resource that is made here."""
    for name, alarm in alarms.items():
        for metric in watched(alarm):
            dimensions, names = SENT[metric["Namespace"]]
            assert metric["MetricName"] in names, name
            assert tuple(each["Name"] for each in metric["Dimensions"]) == dimensions
            for each in metric["Dimensions"]:
                if each["Name"] == "Stage":
                    assert each["Value"] == stage_of(resources)["StageName"]
                else:
                    ((_, place),) = each["Value"].items()
                    place = place if isinstance(place, str) else place[0]
                    assert resources[place]["Type"] == OF_TYPE[each["Name"]]


def test_an_alarm_s_arithmetic_uses_its_metrics(alarms: dict[str, dict[str, Any]]) -> None:
    """An expression names each metric of its alarm, and it alone is judged."""
    (metrics,) = [alarm["Metrics"] for alarm in alarms.values() if "Metrics" in alarm]
    (expression,) = [each for each in metrics if "Expression" in each]
    others = {each["Id"] for each in metrics if each.get("ReturnData") is False}
    assert len(others) == len(metrics) - 1
    assert set(re.findall(r"\b[a-z]\w*", expression["Expression"])) == others


def test_silence_rings_where_it_is_the_fault(alarms: dict[str, dict[str, Any]]) -> None:
    """A metric that is not sent is bad news of the sweep alone, whose count comes with each sweep and no other line."""
    missing = {name: alarm["TreatMissingData"] for name, alarm in alarms.items()}
    assert missing == {name: "breaching" if name == "sweep-missing" else "notBreaching" for name in alarms}
    sweeps = alarms["sweep-missing"]
    assert (sweeps["MetricName"], sweeps["Statistic"], sweeps["Threshold"]) == ("expired", "SampleCount", 1)


def test_thresholds_fit_the_deadlines(alarms: dict[str, dict[str, Any]], resources: dict[str, Any]) -> None:
    """Latency rings before a request's deadline; a job's message is older than the job may be done."""
    functions = of_type(resources, "AWS::Lambda::Function")
    variables = functions["ApiLambdaFunction"]["Environment"]["Variables"]
    deadline, job = int(variables["REQUEST_DEADLINE_SECONDS"]), int(variables["JOB_DEADLINE_SECONDS"])
    assert deadline / 2 < alarms["api-latency"]["Threshold"] / 1000 < deadline
    assert job < alarms["jobs-age"]["Threshold"] <= functions["WorkerLambdaFunction"]["Timeout"]


def shown(alarm: dict[str, Any]) -> list[str]:
    """What the page says of an alarm, as cells: threshold, periods, and what missing data is taken for."""
    (period,) = {metric["Period"] for metric in watched(alarm)}
    periods = alarm["EvaluationPeriods"]
    return [
        f"{OPERATORS[alarm['ComparisonOperator']]} {alarm['Threshold']:,}",
        f"{alarm.get('DatapointsToAlarm', periods)} of {periods}, {period // 60} min",
        "alarm" if alarm["TreatMissingData"] == "breaching" else "fine",
    ]


def test_every_alarm_is_documented(alarms: dict[str, dict[str, Any]]) -> None:
    """The page has a row with the template's figures and a section for each, to which the alarm's own words lead."""
    documented = {named(row[0])[0]: row[2:] for row in rows(PAGE, "## Alarms") if named(row[0])}
    assert documented == {name: shown(alarm) for name, alarm in alarms.items()}
    assert sections(PAGE, "## Alarms") == list(documented)
    for name, alarm in alarms.items():
        assert alarm["AlarmDescription"].endswith(f" See {PAGE}, {name}.")


def test_the_dashboard_shows_every_alarm(widgets: list[dict[str, Any]], resources: dict[str, Any]) -> None:
    """They are at the top, each once, in the stack's own account and region."""
    (shown_first,) = [widget for widget in widgets if widget["type"] == "alarm"]
    assert shown_first["y"] == 0
    made = of_type(resources, "AWS::CloudWatch::Alarm").values()
    address = "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:"
    assert sorted(shown_first["properties"]["alarms"]) == sorted(address + alarm["AlarmName"] for alarm in made)


def graphed(widgets: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of each metric of the dashboard."""
    for widget in widgets:
        for line in widget["properties"].get("metrics", []):
            names = [part for part in line if isinstance(part, str)]
            yield names[0], names[1], dict(zip(names[2::2], names[3::2], strict=True))


def test_the_dashboard_shows_what_is_there(widgets: list[dict[str, Any]], resources: dict[str, Any]) -> None:
    """Each metric is one that AWS or the service sends, of a resource that is made here, in the stack's own region."""
    for namespace, metric, dimensions in graphed(widgets):
        expected, names = SENT[namespace]
        assert metric in names
        assert tuple(dimensions) == expected
        for name, value in dimensions.items():
            if name == "Stage":
                assert value == stage_of(resources)["StageName"]
            else:
                place = re.fullmatch(r"\$\{(\w+)(?:\.QueueName)?\}", value)
                assert place, value
                assert resources[place[1]]["Type"] == OF_TYPE[name]
    assert {widget["properties"]["region"] for widget in widgets if widget["type"] == "metric"} == {"${AWS::Region}"}
    assert {metric for namespace, metric, _ in graphed(widgets) if namespace == NAMESPACE} == set(UNITS)


def test_the_dashboard_s_lines_are_the_thresholds(
    widgets: list[dict[str, Any]], alarms: dict[str, dict[str, Any]]
) -> None:
    """Where a graph has a line for an alarm, it is at that alarm's threshold."""
    lines = [
        line["value"]
        for widget in widgets
        for line in widget["properties"].get("annotations", {}).get("horizontal", [])
    ]
    assert lines == [alarms[name]["Threshold"] for name in ("api-latency", "jobs-age", "outbox-age")]


def test_the_dashboard_has_no_overlap(widgets: list[dict[str, Any]]) -> None:
    """Widgets lie on a grid of 24 columns, each place taken once."""
    taken = [
        (x, y)
        for widget in widgets
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
