"""The resources of the stack, compared with the code, the pages and the limits of AWS."""

import json
import os
import re
import unittest
from pathlib import Path

import pages
from template import ACCOUNT, NAMES, ROOT, STACK, Stack, source

KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234abcd"
# All conditions of the template are true, except those that exclude each other: hence two stacks.
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

# The permissions on a customer managed key that each call to Secrets Manager needs:
# https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html
KMS = {"GetSecretValue": {"kms:Decrypt"}, "PutSecretValue": {"kms:GenerateDataKey", "kms:Decrypt"}}
# Sweeps need these, with a prefix. They have no resource of their own:
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecretsmanager.html
BATCHES = {"secretsmanager:BatchGetSecretValue", "secretsmanager:ListSecrets"}
# The call that the code makes without an SDK.
EVENTS = {"events:PutEvents"}
# The calls that Lambda makes with the function's role: for its log, and for the destination of failed events.
LAMBDA = {"logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"}


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def allowed(documents: list[dict]) -> set[str]:
    statements = [statement for document in documents for statement in document["Statement"]]
    assert all(statement["Effect"] == "Allow" for statement in statements)
    return {action for statement in statements for action in as_list(statement["Action"])}


def calls_of_the_code() -> set[str]:
    """The operations of Secrets Manager that the code calls with the SDK's client. No other client of the SDK may be in the code."""
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
        self.assertLessEqual({"PutSecretValue", "BatchGetSecretValue"}, calls)
        for name, stack in STACKS.items():
            with self.subTest(stack=name):
                expected = {f"secretsmanager:{call}" for call in calls} - BATCHES | EVENTS | LAMBDA
                if name == "by prefix":
                    expected |= BATCHES
                if name != "defaults":
                    expected |= set().union(*(KMS.get(call, set()) for call in calls))
                self.assertEqual(allowed(stack.policies("FunctionRole")), expected)
                self.assertEqual(allowed(stack.policies("ScheduleRole")), {"lambda:InvokeFunction", "sqs:SendMessage"})

    def test_no_allow_statement_is_for_all_resources(self):
        for name, stack in STACKS.items():
            documents = [stack.policies(role) for role in stack.of_type("AWS::IAM::Role")]
            documents += [[each["PolicyDocument"]] for each in stack.of_type("AWS::IAM::ManagedPolicy").values()]
            for statement in (statement for each in documents for document in each for statement in document["Statement"]):
                if set(as_list(statement["Action"])) == BATCHES:
                    self.assertEqual((name, statement["Resource"]), ("by prefix", "*"))
                    continue
                for resource in as_list(statement["Resource"]):
                    with self.subTest(stack=name, resource=resource):
                        service = as_list(statement["Action"])[0].split(":")[0]
                        # Service, Region and account are fixed, and no name is only a wildcard.
                        self.assertRegex(resource, rf"^arn:aws:{service}:eu-central-1:{ACCOUNT}:[A-Za-z0-9]")
                        self.assertNotRegex(resource, r"^[^*]*:\*+$" if service != "logs" else r"group:\*")

    def test_the_key_is_used_only_through_secrets_manager(self):
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

    def test_a_role_can_be_assumed_only_by_its_service_for_this_account(self):
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

    def test_every_role_has_the_boundary_if_one_is_given(self):
        for name, stack in STACKS.items():
            for role in stack.of_type("AWS::IAM::Role").values():
                expected = None if name == "defaults" else EVERYTHING["PermissionsBoundaryArn"]
                self.assertEqual(role.get("PermissionsBoundary"), expected)

    def test_every_secret_has_its_own_schedule_and_a_policy_for_readers(self):
        for stack in STACKS.values():
            schedules = stack.of_type("AWS::Scheduler::Schedule").values()
            self.assertEqual([json.loads(each["Target"]["Input"]) for each in schedules], [{"secretId": name} for name in NAMES])
            readers = stack.of_type("AWS::IAM::ManagedPolicy").values()
            self.assertEqual(
                [each["PolicyDocument"]["Statement"][0]["Action"] for each in readers], ["secretsmanager:GetSecretValue"] * 2
            )
            policies = [output["Value"] for name, output in stack.outputs.items() if name.startswith("ReaderPolicy")]
            self.assertEqual(len(policies), len(NAMES))

    def test_a_deployment_without_the_template_has_the_settings_and_the_policy_of_the_template(self):
        title, stack = "Without the template", Stack()
        function = stack.resources["Function"]["Properties"]
        (invoked,) = stack.of_type("AWS::Lambda::EventInvokeConfig").values()
        schedule = next(iter(stack.of_type("AWS::Scheduler::Schedule").values()))
        expected = {
            "code": [function["Code"]],
            "runtime, handler": [function["Runtime"], function["Handler"]],
            "architecture": function["Architectures"],
            "memory, timeout": [f"{function['MemorySize']} MB", f"{function['Timeout']} s"],
            "logging": [function["LoggingConfig"][name] for name in ("LogFormat", "ApplicationLogLevel")],
            "asynchronous invocation": [
                f"{invoked['MaximumRetryAttempts']} retry attempts",
                f"maximum event age {invoked['MaximumEventAgeInSeconds']} s",
            ],
            "schedules": [schedule["ScheduleExpression"], schedule["Target"]["Input"]],
        }
        rows = {row[0]: row[1] for row in pages.tables(title)[0]}
        for name, values in expected.items():
            for value in values:
                self.assertIn(value, rows[name], name)
        (policy,) = pages.blocks(title, "json")
        role = [each["Properties"] for each in stack.resources.values() if each["Type"] == "AWS::IAM::RolePolicy"]
        self.assertEqual(json.loads(policy), role[0]["PolicyDocument"])
        # Each feature that needs more actions, and the parameter that adds them.
        features = {
            "`publishTo`": {"PublishedSuffix": "/access"},
            "`clientCredentialsSecretId`": {"ClientCredentialsSecretArn": EVERYTHING["ClientCredentialsSecretArn"]},
            "a customer managed KMS key": {"KmsKeyArn": KEY},
        }
        more = {row[0]: set(re.findall("`(.+?)`", row[1])) for row in pages.tables(title)[1]}
        self.assertEqual(more.keys(), features.keys())
        before = [statement for document in stack.policies("FunctionRole") for statement in document["Statement"]]
        for feature, given in features.items():
            documents = Stack(**given).policies("FunctionRole")
            added = [each for document in documents for each in document["Statement"] if each not in before]
            self.assertEqual(more[feature], {action for each in added for action in as_list(each["Action"])}, feature)

    def test_a_token_added_at_the_end_changes_no_existing_resource(self):
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

    def test_a_role_has_room_for_the_policies_of_as_many_tokens_as_the_page_says(self):
        numbers = re.search(r"about (\d+) tokens, or (\d+) with `PublishedSuffix`", pages.section("Many tokens"))
        self.assertIn(f"(about {numbers[1]})", source()["Parameters"]["SecretPrefix"]["Description"])
        for tokens, suffix in [(int(numbers[1]), ""), (int(numbers[2]), "/access")]:
            names = [f"some-company/production/token-{number:03}" for number in range(tokens)]
            given = {name: EVERYTHING[name] for name in ("ClientCredentialsSecretArn", "KmsKeyArn")}
            policies = Stack(names, PublishedSuffix=suffix, **given).policies("FunctionRole")
            # All inline policies of a role may have 10,240 characters together, without white space (IAM quotas).
            self.assertLess(sum(len(json.dumps(each, separators=(",", ":"))) for each in policies), 10_240)

    def test_a_stack_has_room_for_as_many_tokens_as_the_page_says(self):
        parameters = {
            "none": {},
            "`CreateSecrets=yes`": {"CreateSecrets": "yes"},
            "`CreateSecrets=yes`, `PublishedSuffix`": {"CreateSecrets": "yes", "PublishedSuffix": "/access"},
        }
        rows = pages.table("Many tokens")
        self.assertEqual({row[0] for row in rows}, parameters.keys())
        for given, tokens in rows:
            options = parameters[given]
            names = [f"myapp/prod/token-{number:04}" for number in range(int(tokens))]
            stack = Stack(names, SecretPrefix="myapp/prod/", AlarmEmail="someone@example.com", **options)
            # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
            self.assertLessEqual(len(stack.resources), 500)
            self.assertLessEqual(len(stack.outputs), 200)
            self.assertLessEqual(len(",".join(names)), 4096)

    def test_no_secret_is_deleted_with_the_stack(self):
        for name, resource in STACKS["everything"].resources.items():
            if resource["Type"] == "AWS::SecretsManager::Secret":
                self.assertEqual((resource["DeletionPolicy"], resource["UpdateReplacePolicy"]), ("Retain", "Retain"), name)
        created = [each["Name"] for each in STACKS["everything"].of_type("AWS::SecretsManager::Secret").values()]
        self.assertEqual(created, [*NAMES, *(f"{name}/access" for name in NAMES)])
        self.assertNotIn("AWS::SecretsManager::Secret", {each["Type"] for each in STACKS["defaults"].resources.values()})

    def test_failed_and_undelivered_events_go_to_one_encrypted_queue_and_retries_are_limited(self):
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

    def test_the_log_has_a_retention_and_is_json_at_the_level_of_the_metrics(self):
        for stack in STACKS.values():
            (group,) = stack.of_type("AWS::Logs::LogGroup").values()
            self.assertGreaterEqual(group["RetentionInDays"], 1)
            logging = stack.resources["Function"]["Properties"]["LoggingConfig"]
            self.assertEqual(logging["LogGroup"], stack.value_of("LogGroup", "Ref"))
            self.assertEqual((logging["LogFormat"], logging["ApplicationLogLevel"]), ("JSON", "INFO"))

    def test_the_settings_are_on_the_page_and_the_default_secret_is_the_first_name(self):
        variables = STACKS["defaults"].resources["Function"]["Properties"]["Environment"]["Variables"]
        self.assertEqual(variables, {"SECRET_ID": NAMES[0], "REFRESH_MARGIN_SECONDS": 900, "CLAIM": "always"})
        settings = pages.page("docs/settings.md")
        for name in variables:
            self.assertIn(f"`{name}`", settings)


def alarms(stack: Stack) -> dict[str, dict]:
    return stack.of_type("AWS::CloudWatch::Alarm")


class Monitoring(unittest.TestCase):
    def test_every_alarm_and_its_end_go_to_one_topic(self):
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

    def test_missing_data_raises_only_the_alarm_for_missing_runs(self):
        missing = {name: alarm["TreatMissingData"] for name, alarm in alarms(Stack()).items()}
        self.assertEqual(missing.pop("NothingRan"), "breaching")
        self.assertEqual(set(missing.values()), {"notBreaching"})

    def test_every_alarm_has_the_expected_metric_and_threshold(self):
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

    def test_alarms_and_dashboard_use_every_emitted_metric_and_no_other_and_the_page_lists_them(self):
        log = os.environ.get("FUNCTIONS_LOG")
        self.assertTrue(log and Path(log).exists(), "FUNCTIONS_LOG is not set: run tests/run")
        emitted = emitted_metrics(Path(log))
        self.assertTrue(emitted, f"the functions of the Rust suite have emitted no metric into {log}")
        stack = Stack()
        used = dashboard_metrics(stack)
        for alarm in alarms(stack).values():
            used.add((alarm["Namespace"], alarm["MetricName"], frozenset(each["Name"] for each in alarm["Dimensions"])))
        ours = {metric for metric in used if metric[0] == "TokenRefresher"}
        self.assertEqual(ours - emitted.keys(), set(), "used, but never emitted")
        # The schedules of the stack start no sweeps, and only a few secrets say when the client's secret expires.
        unused = {name for _, name, _ in page_metrics("Metrics of a sweep")} | {"SecondsUntilClientSecretExpiry"}
        unused -= {name for _, name, _ in ours}
        self.assertEqual({name for _, name, _ in emitted} - {name for _, name, _ in ours}, unused, "emitted, but not used")
        of_aws = {
            ("AWS/Lambda", "Errors"),
            ("AWS/Lambda", "Invocations"),
            ("AWS/Lambda", "Duration"),
            ("AWS/SQS", "NumberOfMessagesSent"),
        }
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


def dashboard_metrics(stack: Stack) -> set:
    """Namespace, name and dimensions of all metrics of the widgets. `.` and `...` repeat cells of the row before."""
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
    """Namespace, name and dimensions of all metrics in a log, in the Embedded Metric Format, with their units:
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
