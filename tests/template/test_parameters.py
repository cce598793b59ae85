"""Which parameter values the template accepts, which it rejects, and with which message."""

import datetime
import re
import unittest
import zoneinfo

import pages
from template import Stack, source

ROLE = "arn:aws:iam::123456789012:role/"

# For each parameter with a pattern: accepted values, rejected values.
VALUES = {
    "SecretNames": (
        ["myapp/prod/upwork", "a", "A-b_c+d=e.f@g", "/leading/slash", "x" * 512],
        ["", "two words", " blank", "a,b", "myapp:prod", "a*", "x" * 513, "näme", "a\n"],
    ),
    "SecretPrefix": (
        ["", "myapp/", "myapp/prod/", "/myapp/"],
        [
            "myapp",
            "/",
            "//",
            "myapp/*",
            "my app/",
            "*/",
            "myapp/prod",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:a/",
        ],
    ),
    "PublishedSuffix": (["", "/access", "-readers"], ["/a b", "*", ":access", "x" * 101]),
    "ReaderRoleArns": (
        ["", ROLE + "reader", ROLE + "path/reader", f"{ROLE}a,{ROLE}b", ROLE + "team-*", "arn:aws-cn:iam::123456789012:role/a"],
        [
            "reader",
            f"{ROLE}a, {ROLE}b",
            f"{ROLE}a,",
            "arn:aws:iam::123456789012:user/a",
            "arn:aws:iam::12345678901:role/a",
            "*",
            ROLE,
        ],
    ),
    "ClientCredentialsSecretArn": (
        ["", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:client-AbCdEf"],
        [
            "client",
            "arn:aws:ssm:eu-central-1:123456789012:parameter/client",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:*",
        ],
    ),
    "KmsKeyArn": (
        [
            "",
            "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:eu-central-1:123456789012:key/mrk-1",
        ],
        ["alias/key", "arn:aws:kms:eu-central-1:123456789012:alias/key", "arn:aws:sns:eu-central-1:123456789012:key/a", "*"],
    ),
    "ScheduleExpression": (
        ["rate(5 minutes)", "rate(1 minute)", "rate(2 minutes)", "rate(1 hour)", "rate(12 hours)", "rate(1 day)"]
        + [
            "cron(0/5 * * * ? *)",
            "cron(15 10 ? * MON-FRI *)",
            "cron(0 8,20 1 * ? 2026)",
            "cron(0 0 L * ? *)",
            "cron(0 0 ? * 6L *)",
        ],
        [
            "",
            "every 5",
            "rate(5 minute)",
            "rate(1 minutes)",
            "rate(0 minutes)",
            "rate(05 minutes)",
            "rate(5  minutes)",
            "rate(5 minutes) ",
        ]
        + [
            "rate(-5 minutes)",
            "rate(5 seconds)",
            "at(2026-01-01T00:00:00)",
            "cron(*/5 * * * *)",
            "cron(0 0 * * * *)",
            "cron(0 0 ? * ? *)",
        ]
        + ["cron(a * * * ? *)", "cron(0/5 * * * ? * *)"],
    ),
    "ScheduleTimezone": (
        ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+1"],
        ["", "utc", "Europe Berlin", "+01:00"],
    ),
    "PermissionsBoundaryArn": (
        ["", "arn:aws:iam::123456789012:policy/boundary", "arn:aws:iam::aws:policy/PowerUserAccess"],
        ["boundary", ROLE + "boundary", "arn:aws:iam::123456789012:policy/"],
    ),
    "AlarmEmail": (["", "someone@example.com"], ["someone", "a@b", "a@b.c,d@e.f", "some one@example.com"]),
    "AlarmTopicArn": (
        ["", "arn:aws:sns:eu-central-1:123456789012:alarms"],
        ["alarms", "arn:aws:sqs:eu-central-1:123456789012:alarms", "arn:aws:sns:eu-central-1:123456789012:alarms:subscription"],
    ),
}
VALUES["WriterRoleArns"] = VALUES["ReaderRoleArns"]

# Parameters that break a rule, and a part of the message.
REJECTED = [
    ({"Claim": "never", "ReservedConcurrency": ""}, "ReservedConcurrency=1"),
    ({"ScheduleExpression": "rate(10 minutes)"}, "SchedulePeriodSeconds"),
    ({"ScheduleExpression": "rate(1 hour)"}, "SchedulePeriodSeconds"),
    ({"ScheduleExpression": "cron(0/30 * * * ? *)"}, "SchedulePeriodSeconds"),
    ({"AlarmEmail": "a@b.c", "AlarmTopicArn": "arn:aws:sns:eu-central-1:123456789012:alarms"}, "not both"),
    ({"ReaderRoleArns": ROLE + "a"}, "CreateSecrets=yes"),
    ({"WriterRoleArns": ROLE + "a"}, "CreateSecrets=yes"),
]
ACCEPTED = [
    {},
    {"Claim": "never"},
    {"ReservedConcurrency": ""},
    {"ScheduleExpression": "rate(9 minutes)"},
    {"ScheduleExpression": "rate(10 minutes)", "SchedulePeriodSeconds": "600"},
    {"ScheduleExpression": "cron(0/30 * * * ? *)", "SchedulePeriodSeconds": "1800"},
    {"AlarmEmail": "a@b.c"},
    {"AlarmTopicArn": "arn:aws:sns:eu-central-1:123456789012:alarms"},
    {"CreateSecrets": "yes", "ReaderRoleArns": ROLE + "a", "WriterRoleArns": ROLE + "b"},
]

parameters = source()["Parameters"]


def seconds_between_runs(expression: str) -> list[int]:
    """The times between the runs of one day, for a rate(…), or for a cron(…) with `*`, numbers and steps."""
    if rate := re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression):
        return [int(rate[1]) * {"minute": 60, "hour": 3600, "day": 86400}[rate[2]]]
    minutes, hours, *others = re.fullmatch(r"cron\((.+)\)", expression)[1].split()
    assert others in (["*", "*", "?", "*"], ["?", "*", "*", "*"]), expression

    def matching(field: str, size: int) -> set[int]:
        if "/" in field:
            start, step = field.split("/")
            return set(range(0 if start == "*" else int(start), size, int(step)))
        return set(range(size)) if field == "*" else {int(each) for each in field.split(",")}

    times = [hour * 3600 + minute * 60 for hour in sorted(matching(hours, 24)) for minute in sorted(matching(minutes, 60))]
    return [later - time for time, later in zip(times, [*times[1:], times[0] + 86400])]


class Parameters(unittest.TestCase):
    def test_each_pattern_accepts_and_rejects_the_values_of_the_table_and_has_a_message(self):
        with_pattern = {name for name, each in parameters.items() if "AllowedPattern" in each}
        self.assertEqual(with_pattern, VALUES.keys())
        for name, (accepted, rejected) in VALUES.items():
            # CloudFormation matches the whole value, and in a list each element.
            pattern = re.compile(parameters[name]["AllowedPattern"])
            for value, expected in [*((value, True) for value in accepted), *((value, False) for value in rejected)]:
                with self.subTest(parameter=name, value=value):
                    self.assertEqual(pattern.fullmatch(value) is not None, expected)
            # CloudFormation shows this text in place of the pattern.
            self.assertGreater(len(parameters[name]["ConstraintDescription"]), 20, name)

    def test_every_text_has_a_pattern_or_a_list_of_values_and_every_number_has_bounds(self):
        for name, each in parameters.items():
            with self.subTest(parameter=name):
                bounded = {"MinValue", "MaxValue"} if each["Type"] == "Number" else {"AllowedPattern"}
                self.assertTrue(bounded <= each.keys() or "AllowedValues" in each)

    def test_every_default_is_an_accepted_value_and_only_the_names_have_no_default(self):
        self.assertEqual([name for name, each in parameters.items() if "Default" not in each], ["SecretNames"])
        for name, each in parameters.items():
            if "AllowedPattern" in each and "Default" in each:
                self.assertRegex(each["Default"], f"^({each['AllowedPattern']})$", name)
            if "AllowedValues" in each:
                self.assertIn(each["Default"], each["AllowedValues"], name)
            if "MinValue" in each:
                self.assertTrue(each["MinValue"] <= each["Default"] <= each["MaxValue"], name)

    def test_the_default_schedule_runs_once_a_period_in_a_time_zone_that_exists(self):
        default = {name: each.get("Default") for name, each in parameters.items()}
        self.assertEqual(seconds_between_runs(default["ScheduleExpression"]), [default["SchedulePeriodSeconds"]])
        zoneinfo.ZoneInfo(default["ScheduleTimezone"])
        # After two failed runs there is time for a third before expiry. The alarm TokenExpires is raised between due and expiry.
        self.assertGreater(default["RefreshMarginSeconds"], 2 * default["SchedulePeriodSeconds"])
        self.assertGreater(default["RefreshMarginSeconds"], default["ExpiryAlarmSeconds"])
        self.assertEqual(datetime.timedelta(seconds=default["RefreshTokenExpiryAlarmSeconds"]).days, 7)

    def test_the_accepted_schedules_run_as_often_as_their_periods(self):
        for given in ACCEPTED:
            if "ScheduleExpression" in given:
                between = seconds_between_runs(given["ScheduleExpression"])
                # Three periods without a run raise NothingRan.
                self.assertLess(max(between), 3 * int(given.get("SchedulePeriodSeconds", 300)), given)

    def test_cloudwatch_accepts_three_times_every_period(self):
        for seconds in parameters["SchedulePeriodSeconds"]["AllowedValues"]:
            self.assertEqual(seconds % 60, 0)
            # EvaluationPeriods × Period may be one day, or seven days if the period is an hour or more (PutMetricAlarm).
            self.assertLessEqual(3 * seconds, 604_800 if seconds >= 3600 else 86_400)

    def test_a_rule_rejects_contradicting_parameters_and_its_message_says_what_to_change(self):
        for given, words in REJECTED:
            with self.subTest(given=given):
                (message,) = Stack(**given).broken_rules()
                self.assertIn(words, message)
        for given in ACCEPTED:
            with self.subTest(given=given):
                self.assertEqual(Stack(**given).broken_rules(), [])

    def test_every_rule_is_broken_by_some_parameters_of_the_table(self):
        messages = {message for given, _ in REJECTED for message in Stack(**given).broken_rules()}
        rules = source()["Rules"].values()
        self.assertEqual(messages, {each["AssertDescription"] for rule in rules for each in rule["Assertions"]})

    def test_every_parameter_is_in_one_group_and_on_the_page_and_has_a_description(self):
        groups = source()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        self.assertEqual(sorted(name for group in groups for name in group["Parameters"]), sorted(parameters))
        for name, each in parameters.items():
            self.assertTrue("Description" in each, name)
        named = re.findall(r"`(\w+)(?:=[^`]*)?`", " ".join(row[0] for row in pages.table("Parameters")))
        self.assertEqual(sorted(named), sorted(parameters))
