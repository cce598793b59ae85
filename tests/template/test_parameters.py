"""Which parameter values the template accepts, which it rejects, and with which message."""

import datetime
import re
import unittest

import pages
from template import ACCOUNT, REQUIRED, SECRET, Stack, is_accepted, source

ROLE = f"arn:aws:iam::{ACCOUNT}:role/"
TOPIC = f"arn:aws:sns:eu-central-1:{ACCOUNT}:alarms"
SECRET_ARN = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:"
PREFIXES = (
    ["", "myapp/", "myapp/prod/", "/myapp/", "A-b_c+d=e.f@g/"],
    ["myapp", "myapp/prod", "/", "//", "*", "*/", "myapp/*", "myapp/*/", "my app/", "a/,b/", " a/", SECRET_ARN + "a/", "a/\n"],
)

KEYS = (
    [""] + [f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/{key}" for key in ("1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-1")],
    ["alias/key", f"arn:aws:kms:eu-central-1:{ACCOUNT}:alias/key", f"arn:aws:sns:eu-central-1:{ACCOUNT}:key/a", "*"],
)

# For each parameter with a pattern: accepted values, rejected values.
VALUES = {
    "SecretName": (
        ["", "myapp/prod/upwork", "a", "A-b_c+d=e.f@g", "/leading/slash", "x" * 512],
        ["two words", " blank", "a,b", "myapp:prod", "a*", "myapp/*", "x" * 513, "näme", "a\n", SECRET_ARN + "a-AbCdEf"],
    ),
    "SecretPrefix": PREFIXES,
    "PublishedPrefix": PREFIXES,
    "ClientCredentialsSecretArn": (
        ["", SECRET_ARN + "client-AbCdEf", SECRET_ARN.replace("aws", "aws-cn", 1) + "myapp/client-AbCdEf"],
        ["client", f"arn:aws:ssm:eu-central-1:{ACCOUNT}:parameter/client", SECRET_ARN + "*", SECRET_ARN],
    ),
    "KmsKeyArn": KEYS,
    "SigningKmsKeyArn": KEYS,
    "CodeS3Bucket": (["abc", "your-bucket", "a.b.c", "x" * 63], ["", "ab", "Your-Bucket", "-ab", "ab-", "s3://abc", "a/b", "x" * 64]),
    "CodeS3Key": (["a", "token-refresher/0.1.0.zip", "x" * 1024], ["", "a b", "a?versionId=1", "a:b", "x" * 1025]),
    "SubnetIds": (
        ["", "subnet-0a1b2c3d", "subnet-0a1b2c3d,subnet-4e5f"],
        ["subnet-", "subnet-xyz", "subnet-1, subnet-2", "subnet-1,", "vpc-1", "sg-1"],
    ),
    "SecurityGroupIds": (["", "sg-0a1b2c3d", "sg-0a1b2c3d,sg-4e5f"], ["sg-", "sg-xyz", "sg-1, sg-2", "sg-1,", "default", "subnet-1"]),
    "PermissionsBoundaryArn": (
        ["", f"arn:aws:iam::{ACCOUNT}:policy/boundary", "arn:aws:iam::aws:policy/PowerUserAccess"],
        ["boundary", ROLE + "boundary", f"arn:aws:iam::{ACCOUNT}:policy/"],
    ),
    "AlarmEmail": (["", "someone@example.com"], ["someone", "a@b", "a@b.c,d@e.f", "some one@example.com"]),
    "AlarmTopicArn": (["", TOPIC], ["alarms", TOPIC.replace("sns", "sqs"), TOPIC + ":subscription"]),
}

# Parameters that break a rule, and a part of the message.
REJECTED = [
    ({"SecretName": ""}, "Set SecretName for one token, or SecretPrefix"),
    ({"SecretName": SECRET, "SecretPrefix": "myapp/prod/"}, "not both"),
    ({"SecretPrefix": "myapp/prod/", "PublishedPrefix": "myapp/prod/"}, "PublishedPrefix must differ"),
    ({"SubnetIds": "subnet-1"}, "Set both SubnetIds and SecurityGroupIds"),
    ({"SecurityGroupIds": "sg-1"}, "Set both SubnetIds and SecurityGroupIds"),
    ({"AlarmEmail": "a@b.c", "AlarmTopicArn": TOPIC}, "not both"),
]
ACCEPTED = [
    {},
    {"SecretPrefix": "myapp/prod/"},
    {"PublishedPrefix": "myapp/access/"},
    {"SecretPrefix": "myapp/prod/", "PublishedPrefix": "myapp/access/"},
    {"SubnetIds": "subnet-1", "SecurityGroupIds": "sg-1"},
    {"AlarmEmail": "a@b.c"},
    {"AlarmTopicArn": TOPIC},
    {"Claim": "never"},
]

parameters = source()["Parameters"]
PERIODS = parameters["SchedulePeriodSeconds"]["AllowedValues"]


def seconds_between_runs(expression: str) -> int:
    """The period of a rate(…), in the forms that EventBridge Scheduler accepts: singular for 1, plural for more."""
    if expression == "rate(1 minute)":
        return 60
    return 60 * int(re.fullmatch(r"rate\(([2-9]|[1-9]\d+) minutes\)", expression)[1])


class Parameters(unittest.TestCase):
    def test_each_pattern_accepts_and_rejects_the_values_of_the_table_and_has_a_message(self):
        with_pattern = {name for name, each in parameters.items() if "AllowedPattern" in each}
        self.assertEqual(with_pattern, VALUES.keys())
        for name, (accepted, rejected) in VALUES.items():
            for value, expected in [*((value, True) for value in accepted), *((value, False) for value in rejected)]:
                with self.subTest(parameter=name, value=value):
                    self.assertEqual(is_accepted(parameters[name], value), expected)
            # CloudFormation shows this text in place of the pattern.
            self.assertGreater(len(parameters[name]["ConstraintDescription"]), 20, name)

    def test_every_text_has_a_pattern_or_a_list_of_values_and_every_number_has_bounds(self):
        for name, each in parameters.items():
            with self.subTest(parameter=name):
                bounded = {"MinValue", "MaxValue"} if each["Type"] == "Number" else {"AllowedPattern"}
                self.assertTrue(bounded <= each.keys() or "AllowedValues" in each)

    def test_every_default_is_an_accepted_value_and_only_the_code_has_no_default(self):
        self.assertEqual({name for name, each in parameters.items() if "Default" not in each}, REQUIRED.keys())
        for name, each in parameters.items():
            if "Default" in each:
                self.assertTrue(is_accepted(each, str(each["Default"])), name)

    def test_the_schedule_runs_once_a_period_and_a_run_ends_before_the_next_one(self):
        for seconds in PERIODS:
            for given, longest in [({}, 60), ({"SecretPrefix": "myapp/prod/"}, seconds)]:
                stack = Stack(SchedulePeriodSeconds=seconds, **given)
                (schedule,) = stack.of_type("AWS::Scheduler::Schedule").values()
                self.assertEqual(seconds_between_runs(schedule["ScheduleExpression"]), seconds)
                self.assertEqual(int(stack.resources["Function"]["Properties"]["Timeout"]), longest)

    def test_after_two_failed_runs_there_is_time_for_a_third(self):
        default = {name: each.get("Default") for name, each in parameters.items()}
        self.assertGreater(default["RefreshMarginSeconds"], 2 * default["SchedulePeriodSeconds"])
        # The alarm TokenExpires is raised between due and expiry.
        self.assertGreater(default["RefreshMarginSeconds"], default["ExpiryAlarmSeconds"])
        self.assertEqual(datetime.timedelta(seconds=default["RefreshTokenExpiryAlarmSeconds"]).days, 7)

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
