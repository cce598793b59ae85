"""The alarms, the mails and the dashboard of the stack, compared with the pages, and with the lines that functions have logged."""

import json
import os
import re
import unittest
from pathlib import Path

import pages
from template import ACCOUNT, ROOT, SECRET, STACK, Stack

TOPIC = f"arn:aws:sns:eu-central-1:{ACCOUNT}:alarms"
ONE, SWEEP = Stack(), Stack(SecretPrefix="myapp/prod/")
# Words of a query for CloudWatch Logs Insights that are no fields.
WORDS_OF_QUERIES = {"filter", "stats", "sort", "limit", "as", "by", "and", "asc", "desc"}


def alarms(stack: Stack) -> dict[str, dict]:
    return stack.of_type("AWS::CloudWatch::Alarm")


class Monitoring(unittest.TestCase):
    def test_every_alarm_its_end_and_the_events_of_the_function_go_to_one_topic(self):
        for stack, topic in [(Stack(), Stack().value_of("AlarmTopic", "Ref")), (Stack(AlarmTopicArn=TOPIC), TOPIC)]:
            for name, alarm in alarms(stack).items():
                self.assertEqual((alarm["AlarmActions"], alarm["OKActions"]), ([topic], [topic]), name)
            self.assertEqual([each["Arn"] for each in stack.resources["TokenEvents"]["Properties"]["Targets"]], [topic])
            self.assertEqual(stack.outputs["AlarmTopicArn"]["Value"], topic)
            kinds = [each["Type"] for each in stack.resources.values()]
            self.assertEqual(kinds.count("AWS::SNS::Topic"), topic != TOPIC)
            self.assertEqual(kinds.count("AWS::SNS::TopicPolicy"), topic != TOPIC)
        (mail,) = Stack(AlarmEmail="someone@example.com").of_type("AWS::SNS::Subscription").values()
        self.assertEqual((mail["Protocol"], mail["Endpoint"]), ("email", "someone@example.com"))

    def test_alarms_of_this_account_and_rules_may_publish_to_the_topic_and_nobody_else(self):
        stack = Stack()
        topic, (policy,) = stack.value_of("AlarmTopic", "Ref"), stack.of_type("AWS::SNS::TopicPolicy").values()
        self.assertEqual(policy["Topics"], [topic])
        allowed = {"Effect": "Allow", "Action": "sns:Publish", "Resource": topic}
        account = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
        expected = [
            allowed | {"Principal": {"Service": "cloudwatch.amazonaws.com"}, "Condition": account},
            allowed | {"Principal": {"Service": "events.amazonaws.com"}},
        ]
        self.assertEqual(policy["PolicyDocument"]["Statement"], expected)

    def test_an_event_of_the_function_becomes_a_mail_if_it_is_about_a_token_of_the_stack(self):
        for given, name in [({}, SECRET), ({"SecretPrefix": "myapp/prod/"}, {"prefix": "myapp/prod/"})]:
            rule = Stack(**given).resources["TokenEvents"]["Properties"]
            self.assertEqual(rule["EventPattern"]["source"], ["token-refresher"])
            self.assertIn(name, rule["EventPattern"]["detail"]["secretId"])
            (target,) = rule["Targets"]
            paths, text = (target["InputTransformer"][each] for each in ("InputPathsMap", "InputTemplate"))
            self.assertEqual(set(re.findall("<(.+?)>", text)), paths.keys())
            # The members of an event that the page lists.
            page = pages.section("Events on the event bus")
            for path in paths.values():
                self.assertIn(f"`{path.removeprefix('$.').removeprefix('detail.')}`", page)
            # Of an object EventBridge makes JSON, whatever characters a provider's words have.
            self.assertEqual(list(json.loads(re.sub("<.+?>", "null", text))), ["event", "message", "remedy"])
            self.assertNotIn('"<', text)

    def test_missing_data_raises_only_the_alarm_for_missing_runs(self):
        missing = {name: alarm["TreatMissingData"] for name, alarm in alarms(Stack()).items()}
        self.assertEqual(missing.pop("NothingRan"), "breaching")
        self.assertEqual(set(missing.values()), {"notBreaching"})

    def test_every_alarm_has_the_expected_metric_and_threshold(self):
        at_least, below = "GreaterThanOrEqualToThreshold", "LessThanThreshold"
        expected = {
            "RunFailed": ("TokenRefresher", "Failed", "Sum", 1, at_least, 1),
            "ConsentNeeded": ("TokenRefresher", "ReauthorizationRequired", "Sum", 1, at_least, 1),
            "TokenNotStored": ("TokenRefresher", "TokenNotStored", "Sum", 1, at_least, 1),
            "TokenExpires": ("TokenRefresher", "SecondsUntilExpiry", "Minimum", 1, below, "120"),
            "RefreshTokenExpires": ("TokenRefresher", "SecondsUntilRefreshTokenExpiry", "Minimum", 1, below, "86400"),
            "ClientSecretExpires": ("TokenRefresher", "SecondsUntilClientSecretExpiry", "Minimum", 1, below, "86400"),
            "TokensNotReached": ("TokenRefresher", "NotReached", "Sum", 3, at_least, 1),
            "NothingRan": ("AWS/Lambda", "Invocations", "Sum", 3, below, 1),
            "DeadLettersCame": ("AWS/SQS", "NumberOfMessagesSent", "Sum", 1, at_least, 1),
        }
        # A sweep that finds no secret has run, too.
        in_sweeps = {
            "RunFailed": ("TokenRefresher", "Failed", "Sum", 3, at_least, 1),
            "NothingRan": ("TokenRefresher", "Secrets", "Sum", 3, below, 1),
        }
        given = {"SchedulePeriodSeconds": 60, "ExpiryAlarmSeconds": 120, "RefreshTokenExpiryAlarmSeconds": 86400}
        members = ("Namespace", "MetricName", "Statistic", "EvaluationPeriods", "ComparisonOperator", "Threshold")
        for stack, expected in [(Stack(**given), expected), (Stack(SecretPrefix="myapp/prod/", **given), expected | in_sweeps)]:
            self.assertEqual({name: tuple(alarm[each] for each in members) for name, alarm in alarms(stack).items()}, expected)
            for name, alarm in alarms(stack).items():
                self.assertEqual(str(alarm["Period"]), {"ClientSecretExpires": "86400", "DeadLettersCame": "900"}.get(name, "60"), name)
                queue = {"Name": "QueueName", "Value": stack.value_of("DeadLetters", "QueueName")}
                function = {"Name": "FunctionName", "Value": STACK}
                self.assertEqual(alarm["Dimensions"], [queue if alarm["Namespace"] == "AWS/SQS" else function], name)

    def test_the_alarm_for_a_person_has_the_text_of_the_page(self):
        # Without white space, fences, numbers of a list and backticks: an alarm is plain text.
        text = re.sub(r"^(```.*|\d+\. )|`", "", pages.section("When a person must consent again"), flags=re.M)
        self.assertEqual(alarms(Stack())["ConsentNeeded"]["AlarmDescription"], " ".join(text.split()))

    def test_every_alarm_has_a_description_of_at_most_1024_characters_and_refers_to_existing_pages(self):
        for name, alarm in alarms(Stack()).items():
            description = alarm["AlarmDescription"]
            self.assertTrue(80 <= len(description) <= 1024, name)
            for page in re.findall(r"\b[\w/-]+\.md\b", description):
                self.assertTrue((ROOT / page).is_file(), f"{name}: {page}")

    def test_every_alarm_is_on_the_page(self):
        self.assertEqual({row[0].strip("`") for row in pages.table("Alarms")}, alarms(Stack()).keys())

    def test_the_dashboard_names_every_alarm_and_fits_into_24_columns(self):
        self.assertRegex(ONE.resources["Dashboard"]["Properties"]["DashboardName"], r"^[A-Za-z0-9_-]{1,255}$")
        body = dashboard(ONE)
        taken = set()
        for widget in body["widgets"]:
            cells = {
                (x, y)
                for x in range(widget["x"], widget["x"] + widget["width"])
                for y in range(widget["y"], widget["y"] + widget["height"])
            }
            self.assertTrue(all(x < 24 for x, _ in cells) and not cells & taken, widget["properties"]["title"])
            taken |= cells
        shown = body["widgets"][0]["properties"]["alarms"]
        self.assertEqual(shown, [ONE.value_of(name, "Arn") for name in alarms(ONE)])

    def test_the_queries_of_the_dashboard_read_the_log_of_the_function_and_members_that_its_lines_have(self):
        lines = logged_lines()
        for widget in widgets(ONE, "log"):
            source, query = re.fullmatch(r"SOURCE '([^']+)' \| (.+)", widget["query"]).groups()
            self.assertEqual((source, widget["region"]), (ONE.value_of("LogGroup", "Ref"), "eu-central-1"))
            aliases = set(re.findall(r"\bas (\w+)", query))
            # A word before a parenthesis is a function.
            fields = set(re.findall(r"\b[A-Za-z]\w*\b(?!\()", query)) - aliases - WORDS_OF_QUERIES
            self.assertTrue(fields)
            self.assertTrue(any(fields <= line.keys() for line in lines), f"no line has all of {fields}")

    def test_alarms_and_dashboard_use_every_emitted_metric_and_no_other_and_the_page_lists_them(self):
        emitted = emitted_metrics(logged_lines())
        used = dashboard_metrics(ONE)
        for alarm in [*alarms(ONE).values(), *alarms(SWEEP).values()]:
            used.add((alarm["Namespace"], alarm["MetricName"], frozenset(each["Name"] for each in alarm["Dimensions"])))
        ours = {metric for metric in used if metric[0] == "TokenRefresher"}
        self.assertEqual(ours - emitted.keys(), set(), "used, but never emitted")
        unused = {name for _, name, _ in emitted} - {name for _, name, _ in ours}
        self.assertEqual(unused, {"Ignored", "ExpiredTokens"}, "emitted, but not used")
        of_aws = {("AWS/Lambda", "Invocations"), ("AWS/Lambda", "Duration"), ("AWS/SQS", "NumberOfMessagesSent")}
        self.assertEqual({metric[:2] for metric in used - ours}, of_aws)
        units = {name: unit for (_, name, _), unit in emitted.items()}
        for _, name, _ in ours:
            expected = "Seconds" if name.startswith("Seconds") else "Milliseconds" if name.endswith("Milliseconds") else "Count"
            self.assertEqual(units[name], expected, name)
        self.assertEqual(page_metrics("Metrics") | page_metrics("Metrics of a sweep"), emitted)


def page_metrics(title: str) -> dict:
    """Namespace, name and dimensions of all metrics in a section of the page, with their units."""
    (namespace,) = re.findall(r"The namespace is `(\w+)`", pages.section("Metrics"))
    found = {}
    for names, unit, dimension_sets, _ in pages.table(title):
        for name in re.findall("`(.+?)`", names):
            for dimensions in dimension_sets.split(";"):
                found[namespace, name, frozenset(re.findall("`(.+?)`", dimensions))] = unit
    return found


def dashboard(stack: Stack) -> dict:
    return json.loads(stack.resources["Dashboard"]["Properties"]["DashboardBody"])


def widgets(stack: Stack, kind: str) -> list[dict]:
    """The properties of the widgets of a kind."""
    found = [widget["properties"] for widget in dashboard(stack)["widgets"] if widget["type"] == kind]
    assert found, f"no widget of type {kind}"
    return found


def dashboard_metrics(stack: Stack) -> set:
    """Namespace, name and dimensions of all metrics of the widgets. `.` and `...` repeat cells of the row before."""
    found = set()
    for widget in widgets(stack, "metric"):
        before = []
        for row in widget["metrics"]:
            if isinstance(row[0], dict):
                search = re.fullmatch(
                    r"""SEARCH\('\{([^}]+)\} FunctionName="([^"]+)" MetricName="(\w+)"', '\w+', \d+\)""", row[0]["expression"]
                )
                assert search and search[2] == STACK, row
                namespace, *dimensions = search[1].split(",")
                found.add((namespace, search[3], frozenset(dimensions)))
                continue
            cells = [cell for cell in row if isinstance(cell, str)]
            before = (
                before
                if cells == ["..."]
                else [old if new == "." else new for new, old in zip(cells, before or cells, strict=True)]
            )
            assert "." not in before and before[3::2] == [STACK], row
            found.add((before[0], before[1], frozenset(before[2::2])))
    return found


def logged_lines() -> list[dict]:
    """The lines in JSON that the functions of the Rust suite have logged."""
    log = os.environ.get("FUNCTIONS_LOG")
    assert log and Path(log).exists(), "FUNCTIONS_LOG is not set: run tests/run"
    found = []
    for line in Path(log).read_text(errors="replace").splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict):
            found.append(document)
    return found


def emitted_metrics(lines: list[dict]) -> dict:
    """Namespace, name and dimensions of all metrics in lines in the Embedded Metric Format, with their units:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html"""
    found = {}
    for document in lines:
        for directive in document.get("_aws", {}).get("CloudWatchMetrics", ()):
            for dimensions in directive["Dimensions"]:
                assert all(isinstance(document[name], str) for name in dimensions), f"a dimension without a value: {document}"
                for metric in directive["Metrics"]:
                    assert isinstance(document[metric["Name"]], (int, float)), f"a metric without a value: {document}"
                    found[directive["Namespace"], metric["Name"], frozenset(dimensions)] = metric["Unit"]
    assert found, "the functions of the Rust suite have emitted no metric"
    return found
