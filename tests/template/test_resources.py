"""What the stack consists of, held against the code, the README and what AWS demands."""

import json
import os
import re
import unittest
from pathlib import Path

import readme
from template import ACCOUNT, NAMES, ROOT, STACK, Stack, source

KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234abcd"
# Every condition of the template true; the resources of the two ways to name secrets are in two stacks.
EVERYTHING = {
    "CreateSecrets": "yes",
    "PublishedSuffix": "/access",
    "ReaderRoleArns": f"arn:aws:iam::{ACCOUNT}:role/reader",
    "WriterRoleArns": f"arn:aws:iam::{ACCOUNT}:role/writer",
    "ClientCredentialsSecretArn": f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:client-AbCdEf",
    "KmsKeyArn": KEY,
    "PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/boundary",
    "FlexibleWindowMinutes": 2,
    "AlarmEmail": "someone@example.com",
}
STACKS = {"defaults": Stack(), "everything": Stack(**EVERYTHING), "by prefix": Stack(**EVERYTHING, SecretPrefix="myapp/prod/")}

# What each call to Secrets Manager needs of the key, when the secret has one of its own:
# https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html
KMS = {"GetSecretValue": {"kms:Decrypt"}, "PutSecretValue": {"kms:GenerateDataKey", "kms:Decrypt"}}
# What Lambda does as the function: its log, and the destination of failed runs.
LAMBDA = {"logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"}


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def allowed(documents: list[dict]) -> set[str]:
    statements = [statement for document in documents for statement in document["Statement"]]
    assert all(statement["Effect"] == "Allow" for statement in statements)
    return {action for statement in statements for action in as_list(statement["Action"])}


def calls_of_the_code() -> set[str]:
    """Operations of Secrets Manager, from the calls of the SDK's client; no other client may be there."""
    calls = set()
    for path in (ROOT / "src").rglob("*.rs"):
        code = path.read_text()
        services = set(re.findall(r"\baws_sdk_(\w+)", code))
        assert services <= {"secretsmanager"}, f"{path} uses {services}"
        if services:
            calls |= {name.title().replace("_", "") for name in re.findall(r"\bclient\s*\.(\w+)\(\)", code)}
    return calls


class Resources(unittest.TestCase):
    def test_the_role_allows_what_the_code_calls_and_nothing_else(self):
        calls = calls_of_the_code()
        self.assertIn("PutSecretValue", calls)
        for name, stack in STACKS.items():
            with self.subTest(stack=name):
                expected = {f"secretsmanager:{call}" for call in calls} | LAMBDA
                if name != "defaults":
                    expected |= set().union(*(KMS.get(call, set()) for call in calls))
                self.assertEqual(allowed(stack.policies("FunctionRole")), expected)
                self.assertEqual(allowed(stack.policies("ScheduleRole")), {"lambda:InvokeFunction", "sqs:SendMessage"})

    def test_no_statement_that_allows_something_is_for_any_resource(self):
        for name, stack in STACKS.items():
            documents = [stack.policies(role) for role in stack.of_type("AWS::IAM::Role")]
            documents += [[each["PolicyDocument"]] for each in stack.of_type("AWS::IAM::ManagedPolicy").values()]
            for statement in (statement for each in documents for document in each for statement in document["Statement"]):
                for resource in as_list(statement["Resource"]):
                    with self.subTest(stack=name, resource=resource):
                        service = as_list(statement["Action"])[0].split(":")[0]
                        # Service, Region and account are fixed, and no name is a wildcard alone.
                        self.assertRegex(resource, rf"^arn:aws:{service}:eu-central-1:{ACCOUNT}:[A-Za-z0-9]")
                        self.assertNotRegex(resource, r"^[^*]*:\*+$" if service != "logs" else r"group:\*")

    def test_a_key_is_used_through_secrets_manager_only(self):
        for name, stack in STACKS.items():
            documents = stack.policies("FunctionRole")
            documents += [each["PolicyDocument"] for each in stack.of_type("AWS::IAM::ManagedPolicy").values()]
            statements = [each for document in documents for each in document["Statement"] if "kms:" in str(each["Action"])]
            self.assertEqual(len(statements), 0 if name == "defaults" else 1 + len(NAMES))
            for statement in statements:
                self.assertEqual(
                    statement["Condition"], {"StringEquals": {"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}}
                )
                self.assertEqual(statement["Resource"], KEY)

    def test_a_role_is_assumed_by_its_service_for_this_account_only(self):
        for stack in STACKS.values():
            trust = {}
            for name, role in stack.of_type("AWS::IAM::Role").items():
                (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
                self.assertEqual(statement["Action"], "sts:AssumeRole")
                self.assertEqual(statement["Condition"]["StringEquals"]["aws:SourceAccount"], ACCOUNT)
                trust[name] = statement["Principal"], statement["Condition"]["StringEquals"].get("aws:SourceArn")
            group = stack.value_of("ScheduleGroup", "Arn")
            expected = {
                "FunctionRole": ({"Service": "lambda.amazonaws.com"}, None),
                "ScheduleRole": ({"Service": "scheduler.amazonaws.com"}, group),
            }
            self.assertEqual(trust, expected)

    def test_every_role_has_the_boundary_where_one_is_given(self):
        for name, stack in STACKS.items():
            for role in stack.of_type("AWS::IAM::Role").values():
                expected = None if name == "defaults" else EVERYTHING["PermissionsBoundaryArn"]
                self.assertEqual(role.get("PermissionsBoundary"), expected)

    def test_every_secret_has_a_schedule_that_names_it_and_a_policy_for_readers(self):
        for stack in STACKS.values():
            schedules = stack.of_type("AWS::Scheduler::Schedule").values()
            self.assertEqual([json.loads(each["Target"]["Input"]) for each in schedules], [{"secretId": name} for name in NAMES])
            readers = stack.of_type("AWS::IAM::ManagedPolicy").values()
            self.assertEqual(
                [each["PolicyDocument"]["Statement"][0]["Action"] for each in readers], ["secretsmanager:GetSecretValue"] * 2
            )
            policies = [output["Value"] for name, output in stack.outputs.items() if name.startswith("ReaderPolicy")]
            self.assertEqual(len(policies), len(NAMES))

    def test_a_token_added_at_the_end_touches_nothing_that_is_there(self):
        options = {"CreateSecrets": "yes", "PublishedSuffix": "/access"}
        before, after = Stack(NAMES, **options), Stack([*NAMES, "myapp/prod/third"], **options)
        for name, resource in before.resources.items():
            self.assertEqual(after.resources[name], resource, name)
        added = after.resources.keys() - before.resources.keys()
        kinds = {
            "Schedule",
            "RefreshPolicy",
            "ReaderPolicy",
            "Secret",
            "SecretPolicy",
            "PublishedSecret",
            "PublishedSecretPolicy",
        }
        self.assertEqual({re.sub("myapp.*", "", name) for name in added}, kinds)

    def test_the_policies_of_as_many_tokens_as_the_readme_says_fit_into_a_role(self):
        numbers = re.search(r"about (\d+) tokens, or (\d+) with `PublishedSuffix`", readme.text)
        self.assertIn(f"(about {numbers[1]})", source()["Parameters"]["SecretPrefix"]["Description"])
        for tokens, suffix in [(int(numbers[1]), ""), (int(numbers[2]), "/access")]:
            names = [f"some-company/production/token-{number:03}" for number in range(tokens)]
            given = {name: EVERYTHING[name] for name in ("ClientCredentialsSecretArn", "KmsKeyArn")}
            policies = Stack(names, PublishedSuffix=suffix, **given).policies("FunctionRole")
            # 10,240 characters for all inline policies of a role, white space not counted (IAM quotas).
            self.assertLess(sum(len(json.dumps(each, separators=(",", ":"))) for each in policies), 10_240)

    def test_as_many_tokens_as_the_readme_says_fit_into_a_stack(self):
        numbers = re.search(
            r"a stack takes about (\d+) tokens,\s(\d+) with `CreateSecrets=yes`, (\d+) with `PublishedSuffix`, too", readme.text
        )
        for tokens, options in zip(
            numbers.groups(), [{}, {"CreateSecrets": "yes"}, {"CreateSecrets": "yes", "PublishedSuffix": "/access"}]
        ):
            names = [f"myapp/prod/token-{number:04}" for number in range(int(tokens))]
            stack = Stack(names, SecretPrefix="myapp/prod/", AlarmEmail="someone@example.com", **options)
            # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
            self.assertLessEqual(len(stack.resources), 500)
            self.assertLessEqual(len(stack.outputs), 200)
            self.assertLessEqual(len(",".join(names)), 4096)

    def test_no_token_is_deleted_with_the_stack(self):
        for name, resource in STACKS["everything"].resources.items():
            if resource["Type"] == "AWS::SecretsManager::Secret":
                self.assertEqual((resource["DeletionPolicy"], resource["UpdateReplacePolicy"]), ("Retain", "Retain"), name)
        made = [each["Name"] for each in STACKS["everything"].of_type("AWS::SecretsManager::Secret").values()]
        self.assertEqual(made, [*NAMES, *(f"{name}/access" for name in NAMES)])
        self.assertNotIn("AWS::SecretsManager::Secret", {each["Type"] for each in STACKS["defaults"].resources.values()})

    def test_what_fails_or_is_not_delivered_comes_to_one_encrypted_queue_and_is_not_tried_for_ever(self):
        for stack in STACKS.values():
            (queue,) = stack.of_type("AWS::SQS::Queue").values()
            self.assertTrue(queue["SqsManagedSseEnabled"])
            arn = stack.value_of("DeadLetters", "Arn")
            (invoked,) = stack.of_type("AWS::Lambda::EventInvokeConfig").values()
            self.assertEqual(invoked["DestinationConfig"]["OnFailure"]["Destination"], arn)
            self.assertEqual(invoked["MaximumRetryAttempts"], 0)
            period = source()["Parameters"]["SchedulePeriodSeconds"]["Default"]
            self.assertLess(invoked["MaximumEventAgeInSeconds"], period)
            for schedule in stack.of_type("AWS::Scheduler::Schedule").values():
                self.assertEqual(schedule["Target"]["DeadLetterConfig"]["Arn"], arn)
                self.assertLess(schedule["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"], period)

    def test_the_log_is_kept_for_a_time_and_written_as_json_at_the_level_of_the_metrics(self):
        for stack in STACKS.values():
            (group,) = stack.of_type("AWS::Logs::LogGroup").values()
            self.assertGreaterEqual(group["RetentionInDays"], 1)
            logging = stack.resources["Function"]["Properties"]["LoggingConfig"]
            self.assertEqual(logging["LogGroup"], stack.value_of("LogGroup", "Ref"))
            self.assertEqual((logging["LogFormat"], logging["ApplicationLogLevel"]), ("JSON", "INFO"))

    def test_an_event_that_names_no_secret_is_for_the_first_one(self):
        variables = STACKS["defaults"].resources["Function"]["Properties"]["Environment"]["Variables"]
        self.assertEqual(variables, {"SECRET_ID": NAMES[0], "REFRESH_MARGIN_SECONDS": 900, "CLAIM": "always"})
        settings = readme.section("Settings")
        for name in variables:
            self.assertIn(f"`{name}`", settings)


def alarms(stack: Stack) -> dict[str, dict]:
    return stack.of_type("AWS::CloudWatch::Alarm")


class Watching(unittest.TestCase):
    def test_every_alarm_goes_to_one_topic_and_tells_its_end(self):
        given = "arn:aws:sns:eu-central-1:123456789012:alarms"
        for stack, topic in [(Stack(), Stack().value_of("AlarmTopic", "Ref")), (Stack(AlarmTopicArn=given), given)]:
            self.assertEqual(len(alarms(stack)), 7)
            for name, alarm in alarms(stack).items():
                self.assertEqual((alarm["AlarmActions"], alarm["OKActions"]), ([topic], [topic]), name)
            self.assertEqual(stack.outputs["AlarmTopicArn"]["Value"], topic)
            kinds = [each["Type"] for each in stack.resources.values()]
            self.assertEqual(kinds.count("AWS::SNS::Topic"), topic != given)
        (mail,) = STACKS["everything"].of_type("AWS::SNS::Subscription").values()
        self.assertEqual((mail["Protocol"], mail["Endpoint"]), ("email", "someone@example.com"))

    def test_only_runs_that_are_missing_are_an_alarm_for_want_of_data(self):
        missing = {name: alarm["TreatMissingData"] for name, alarm in alarms(Stack()).items()}
        self.assertEqual(missing.pop("NothingRan"), "breaching")
        self.assertEqual(set(missing.values()), {"notBreaching"})

    def test_every_alarm_is_raised_by_what_it_is_for(self):
        stack = Stack(SchedulePeriodSeconds=600, ExpiryAlarmSeconds=120, RefreshTokenExpiryAlarmSeconds=86400)
        at_least, below = "GreaterThanOrEqualToThreshold", "LessThanThreshold"
        expected = {
            "RunFailed": ("AWS/Lambda", "Errors", "Sum", 1, at_least, 1),
            "ConsentNeeded": ("TokenRefresher", "ReauthorizationRequired", "Sum", 1, at_least, 1),
            "TokenNotStored": ("TokenRefresher", "TokenNotStored", "Sum", 1, at_least, 1),
            "NothingRan": ("AWS/Lambda", "Invocations", "Sum", 3, below, 1),
            "TokenExpires": ("TokenRefresher", "SecondsUntilExpiry", "Minimum", 1, below, 120),
            "RefreshTokenExpires": ("TokenRefresher", "SecondsUntilRefreshTokenExpiry", "Minimum", 1, below, 86400),
            "DeadLettersCame": ("AWS/SQS", "NumberOfMessagesSent", "Sum", 1, at_least, 1),
        }
        members = ("Namespace", "MetricName", "Statistic", "EvaluationPeriods", "ComparisonOperator", "Threshold")
        self.assertEqual({name: tuple(alarm[member] for member in members) for name, alarm in alarms(stack).items()}, expected)
        for name, alarm in alarms(stack).items():
            self.assertEqual(alarm["Period"], 600, name)
            queue = {"Name": "QueueName", "Value": stack.value_of("DeadLetters", "QueueName")}
            function = {"Name": "FunctionName", "Value": STACK}
            self.assertEqual(alarm["Dimensions"], [queue if alarm["Namespace"] == "AWS/SQS" else function], name)

    def test_the_alarm_for_a_person_says_what_the_readme_says_word_for_word(self):
        # White space is one, and the fences of the code block are no text.
        said = re.sub(r"^```.*$", "", readme.section("When a person must consent again"), flags=re.M)
        self.assertEqual(alarms(Stack())["ConsentNeeded"]["AlarmDescription"], " ".join(said.split()))

    def test_every_alarm_says_in_at_most_1024_characters_what_to_do(self):
        for name, alarm in alarms(Stack()).items():
            self.assertTrue(80 <= len(alarm["AlarmDescription"]) <= 1024, name)

    def test_the_dashboard_names_every_alarm_and_fits_into_24_columns(self):
        stack = Stack()
        self.assertRegex(stack.resources["Dashboard"]["Properties"]["DashboardName"], r"^[A-Za-z0-9_-]{1,255}$")
        body = dashboard(stack)
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
        self.assertEqual(shown, [stack.value_of(name, "Arn") for name in alarms(stack)])

    def test_every_metric_that_is_looked_at_is_emitted_and_every_one_emitted_is_looked_at(self):
        log = os.environ.get("FUNCTIONS_LOG")
        self.assertTrue(log and Path(log).exists(), "FUNCTIONS_LOG is not set: run tests/run")
        emitted = emitted_metrics(Path(log))
        self.assertTrue(emitted, f"the functions of the Rust suite have emitted no metric into {log}")
        stack = Stack()
        looked_at = dashboard_metrics(stack)
        for alarm in alarms(stack).values():
            looked_at.add((alarm["Namespace"], alarm["MetricName"], frozenset(each["Name"] for each in alarm["Dimensions"])))
        ours = {metric for metric in looked_at if metric[0] == "TokenRefresher"}
        self.assertEqual(ours - emitted.keys(), set(), "looked at, and never emitted")
        self.assertEqual(
            {name for _, name, _ in emitted} - {name for _, name, _ in ours}, set(), "emitted, and looked at by no one"
        )
        of_aws = {
            ("AWS/Lambda", "Errors"),
            ("AWS/Lambda", "Invocations"),
            ("AWS/Lambda", "Duration"),
            ("AWS/SQS", "NumberOfMessagesSent"),
        }
        self.assertEqual({metric[:2] for metric in looked_at - ours}, of_aws)
        units = {name: unit for (_, name, _), unit in emitted.items()}
        for _, name, _ in ours:
            expected = "Seconds" if name.startswith("Seconds") else "Milliseconds" if name.endswith("Milliseconds") else "Count"
            self.assertEqual(units[name], expected, name)


def dashboard(stack: Stack) -> dict:
    return json.loads(stack.resources["Dashboard"]["Properties"]["DashboardBody"])


def dashboard_metrics(stack: Stack) -> set:
    """Namespace, name and dimensions of all that the widgets show; `.` and `...` stand for what the row before has there."""
    found = set()
    for widget in dashboard(stack)["widgets"][1:]:
        before = []
        for row in widget["properties"]["metrics"]:
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


def emitted_metrics(log: Path) -> dict:
    """Namespace, name and dimensions of all metrics in the Embedded Metric Format, with their units:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html"""
    found = {}
    for line in log.read_text(errors="replace").splitlines():
        if '"_aws"' not in line:
            continue
        document = json.loads(line)
        for directive in document["_aws"]["CloudWatchMetrics"]:
            for dimensions in directive["Dimensions"]:
                assert all(isinstance(document[name], str) for name in dimensions), f"a dimension without a value: {line}"
                for metric in directive["Metrics"]:
                    assert isinstance(document[metric["Name"]], (int, float)), f"a metric without a value: {line}"
                    found[directive["Namespace"], metric["Name"], frozenset(dimensions)] = metric["Unit"]
    return found
