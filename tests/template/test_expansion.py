"""Whether CloudFormation replaces each reference of schedule.yaml, for parameters that make each condition true and false.

The check itself is checked with templates that it must refuse."""

import unittest

from template import ACCOUNT, FILE, Refused, Stack, source

ARNS = {
    "ClientCredentialsSecretArn": f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:client-AbCdEf",
    "KmsKeyArn": f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234abcd",
    "SigningKmsKeyArn": f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/5678abcd",
    "PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/boundary",
}
SETS = [
    {},
    {"SecretPrefix": "myapp/prod/"},
    {"PublishedPrefix": "myapp/access/"},
    {"SecretPrefix": "myapp/prod/", "PublishedPrefix": "myapp/access/"},
    ARNS,
    {"SecretPrefix": "myapp/prod/", "PublishedPrefix": "myapp/access/"} | ARNS,
    {"SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"},
    {"AlarmEmail": "you@example.com"},
    {"AlarmTopicArn": f"arn:aws:sns:eu-central-1:{ACCOUNT}:alarms"},
    {"Claim": "never", "RunWhenSecretChanges": "no"},
    *({"SecretPrefix": "myapp/prod/", "SchedulePeriodSeconds": seconds} for seconds in (60, 300)),
]

WITHOUT_MISTAKE = """
Parameters: {Name: {Type: String, Default: a}}
Conditions: {Never: !Equals [!Ref Name, b]}
Resources:
  Queue: {Type: AWS::SQS::Queue, Condition: Never}
  Topic: {Type: AWS::SNS::Topic, Properties: {DisplayName: !Ref Name}}
"""
# The same template with one mistake each: a text, what takes its place, and a part of the message.
MISTAKES = {
    "a transform": ("Parameters:", "Transform: AWS::LanguageExtensions\nParameters:", "a transform"),
    "a loop, with & in a value": (
        "Resources:",
        "Resources:\n  Fn::ForEach::Topics: [Each, [a], {'Topic&{Each}': {Type: AWS::SNS::Topic, Properties: {DisplayName: '&{Each}'}}}]",
        "Fn::ForEach::Topics",
    ),
    "& in a value": ("!Ref Name}", "'&{Name}'}", "&{Name}"),
    "& in Fn::Sub": ("!Ref Name}", "!Sub '&{Name}'}", "&{Name}"),
    "$ without Fn::Sub": ("!Ref Name}", "'${Name}'}", "${Name}"),
    "Ref of an unknown name": ("!Ref Name}", "!Ref Nope}", "Nope"),
    "Ref of an unknown name in a branch that is not taken": ("!Ref Name}", "!If [Never, !Ref Nope, a]}", "Nope"),
    "Ref of a resource whose condition is false": ("!Ref Name}", "!Ref Queue}", "Queue"),
    "Fn::GetAtt of a resource whose condition is false": ("!Ref Name}", "!GetAtt Queue.Arn}", "Queue"),
    "Fn::GetAtt of an unknown resource": ("!Ref Name}", "!GetAtt Nope.Arn}", "Nope"),
    "Fn::GetAtt of an unknown attribute": ("!Ref Name}", "!GetAtt Topic.Nope}", "Nope"),
    "Fn::Sub of an unknown name": ("!Ref Name}", "!Sub '${Nope}'}", "Nope"),
    "Fn::Sub of a resource whose condition is false": ("!Ref Name}", "!Sub '${Queue.Arn}'}", "Queue"),
    "an unknown function": ("!Ref Name}", "!Nope Name}", "Fn::Nope"),
    "an unknown condition in Fn::If": ("!Ref Name}", "!If [Nope, a, b]}", "Nope"),
    "an unknown condition of a resource": ("Condition: Never", "Condition: Nope", "Nope"),
    "a condition about a resource": ("!Equals [!Ref Name, b]", "!Equals [!Ref Topic, b]", "Topic"),
}


def resolved(stack: Stack):
    """Everything that a deployment resolves."""
    return stack.broken_rules(), stack.conditions, stack.resources, stack.outputs


class Expansion(unittest.TestCase):
    def test_every_reference_is_replaced_whatever_the_conditions_are(self):
        values = {}
        for given in SETS:
            with self.subTest(given=given):
                broken, conditions, _, _ = resolved(Stack(**given))
                self.assertEqual(broken, [])
                for name, value in conditions.items():
                    values.setdefault(name, set()).add(value)
        self.assertEqual(values, {name: {True, False} for name in source()["Conditions"]})

    def test_the_check_refuses_each_mistake(self):
        resolved(Stack(WITHOUT_MISTAKE))
        for mistake, (text, replacement, message) in MISTAKES.items():
            with self.subTest(mistake=mistake):
                self.assertIn(text, WITHOUT_MISTAKE)
                with self.assertRaises(Refused) as refused:
                    resolved(Stack(WITHOUT_MISTAKE.replace(text, replacement)))
                self.assertIn(message, str(refused.exception))

    def test_the_check_refuses_the_mistakes_in_the_template_itself(self):
        for text, replacement in [
            ("${SecretPrefix}*", "&{SecretPrefix}*"),
            ("!GetAtt DeadLetters.Arn", "!GetAtt Nope.Arn"),
            ("!If [NewTopic, !Ref AlarmTopic, !Ref AlarmTopicArn]", "!Ref AlarmTopic"),
        ]:
            with self.subTest(text=text), self.assertRaises(Refused):
                template = FILE.read_text()
                self.assertIn(text, template)
                for given in SETS:
                    parameters = {"CodeS3Bucket": "your-bucket", "CodeS3Key": "a.zip"} | given
                    resolved(Stack(template.replace(text, replacement), **parameters))
