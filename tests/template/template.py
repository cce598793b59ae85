"""schedule.yaml with its loops expanded and its functions replaced by values, for given parameters.

cfn-lint reads the file and expands Fn::ForEach. This module resolves the rest (Ref, Fn::Sub, Fn::If, …). Names and ARNs that only a
deployment knows are invented. Makes no network call and writes nothing."""

import functools
import json
import re
from copy import deepcopy
from pathlib import Path

from cfnlint.decode.cfn_yaml import load
from cfnlint.template import Template

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "schedule.yaml"

REGION, ACCOUNT = "eu-central-1", "123456789012"
STACK = "token-refresher"
# The names in most tests: the loops must turn them into logical ids.
NAMES = ["myapp/prod/upwork", "myapp/prod/xero-2"]

PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": STACK,
    "AWS::URLSuffix": "amazonaws.com",
}

# Results of Ref and Fn::GetAtt for each type, from the stack's name and the logical id.
ARN = f"arn:aws:{{}}:{REGION}:{ACCOUNT}:"
VALUES = {
    "AWS::Lambda::Function": {"Ref": STACK, "Arn": f"{ARN.format('lambda')}function:{STACK}"},
    "AWS::IAM::Role": {"Ref": f"{STACK}-{{id}}", "Arn": f"arn:aws:iam::{ACCOUNT}:role/{STACK}-{{id}}"},
    "AWS::IAM::ManagedPolicy": {"Ref": f"arn:aws:iam::{ACCOUNT}:policy/{STACK}-{{id}}"},
    "AWS::Logs::LogGroup": {"Ref": f"{STACK}-{{id}}", "Arn": f"{ARN.format('logs')}log-group:{STACK}-{{id}}:*"},
    "AWS::SQS::Queue": {"Arn": f"{ARN.format('sqs')}{STACK}-{{id}}", "QueueName": f"{STACK}-{{id}}"},
    "AWS::SNS::Topic": {"Ref": f"{ARN.format('sns')}{STACK}-{{id}}"},
    "AWS::Scheduler::ScheduleGroup": {"Ref": STACK, "Arn": f"{ARN.format('scheduler')}schedule-group/{STACK}"},
    "AWS::SecretsManager::Secret": {"Ref": f"{ARN.format('secretsmanager')}secret:{{name}}-AbCdEf"},
    "AWS::CloudWatch::Alarm": {"Ref": f"{STACK}-{{id}}", "Arn": f"{ARN.format('cloudwatch')}alarm:{STACK}-{{id}}"},
}

NO_VALUE = object()


@functools.cache
def source(file: Path = FILE) -> dict:
    """The file unchanged, with its loops and functions. Callers must not modify it."""
    return load(str(file))


def secret_arn(name: str) -> str:
    return f"{ARN.format('secretsmanager')}secret:{name}-AbCdEf"


class Stack:
    """The stack that a deployment with these parameters creates."""

    def __init__(self, names=NAMES, file=FILE, **parameters):
        template = deepcopy(source(file))
        # cfn-lint takes no parameter values: the loops run over the parameter's default.
        template["Parameters"]["SecretNames"]["Default"] = ",".join(names)
        expander = Template(str(file), template, [REGION])
        problems = expander.transform()
        assert not problems, problems
        self.expanded = expander.template
        declared = self.expanded["Parameters"]
        unknown = parameters.keys() - declared.keys()
        assert not unknown, f"unknown parameters: {unknown}"
        self.parameters = {name: parameters.get(name, each.get("Default")) for name, each in declared.items()}
        self.parameters["SecretNames"] = names

    @functools.cached_property
    def resources(self) -> dict[str, dict]:
        resources = self.expanded["Resources"].items()
        return {name: self.resolve(each) for name, each in resources if self.holds(each.get("Condition"))}

    @functools.cached_property
    def outputs(self) -> dict[str, dict]:
        return self.resolve(self.expanded["Outputs"])

    def holds(self, condition) -> bool:
        if condition is None:
            return True
        if isinstance(condition, str):
            return self.holds(self.expanded["Conditions"][condition])
        ((function, arguments),) = condition.items()
        match function:
            case "Condition":
                return self.holds(arguments)
            case "Fn::Equals":
                one, other = map(self.resolve, arguments)
                return str(one) == str(other)
            case "Fn::Not":
                return not self.holds(arguments[0])
            case "Fn::And":
                return all(map(self.holds, arguments))
            case "Fn::Or":
                return any(map(self.holds, arguments))
            case "Fn::Contains":
                return self.resolve(arguments[1]) in self.resolve(arguments[0])
        raise NotImplementedError(function)

    def value_of(self, logical_id: str, attribute: str) -> str:
        resource = self.expanded["Resources"][logical_id]
        assert self.holds(resource.get("Condition")), f"{logical_id} is referenced but does not exist"
        name = self.resolve(resource.get("Properties", {}).get("Name", ""))
        return VALUES[resource["Type"]][attribute].format(id=logical_id, name=name)

    def ref(self, name: str):
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in PSEUDO:
            return PSEUDO[name]
        return self.parameters[name] if name in self.parameters else self.value_of(name, "Ref")

    def get(self, reference: str):
        """The value of ${…}."""
        return self.value_of(*reference.split(".", 1)) if "." in reference else self.ref(reference)

    def resolve(self, item):
        match item:
            case list():
                resolved = map(self.resolve, item)
                return [each for each in resolved if each is not NO_VALUE]
            case {"Ref": name}:
                return self.ref(name)
            case {"Fn::GetAtt": [logical_id, attribute]}:
                return self.value_of(logical_id, attribute)
            case {"Fn::GetAtt": reference}:
                return self.get(reference)
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([^!}]+)\}", lambda match: str(self.get(match[1])), text)
            case {"Fn::If": [condition, yes, no]}:
                return self.resolve(yes if self.holds(condition) else no)
            case {"Fn::Select": [index, items]}:
                return self.resolve(items)[int(index)]
            case {"Fn::Split": [separator, text]}:
                return self.resolve(text).split(separator)
            case dict():
                function = next((key for key in item if key.startswith("Fn::")), None)
                assert function is None, f"{function} is not supported here"
                resolved = {key: self.resolve(value) for key, value in item.items()}
                return {key: value for key, value in resolved.items() if value is not NO_VALUE}
        return item

    def of_type(self, kind: str) -> dict[str, dict]:
        """Logical ids and properties of the resources of a type."""
        found = {name: each.get("Properties", {}) for name, each in self.resources.items() if each["Type"] == kind}
        assert found, f"no {kind}"
        return found

    def policies(self, role: str) -> list[dict]:
        """All policy documents of a role."""
        documents = [each["PolicyDocument"] for each in self.of_type("AWS::IAM::Role")[role]["Policies"]]
        name = self.value_of(role, "Ref")
        for each in self.resources.values():
            if each["Type"] == "AWS::IAM::RolePolicy" and each["Properties"]["RoleName"] == name:
                documents.append(each["Properties"]["PolicyDocument"])
        return documents

    def broken_rules(self) -> list[str]:
        """The messages with which CloudFormation would reject these parameters."""
        broken = []
        for rule in self.expanded["Rules"].values():
            if self.holds(rule.get("RuleCondition")):
                broken += [each["AssertDescription"] for each in rule["Assertions"] if not self.holds(each["Assert"])]
        return broken


def plain(item):
    """The same value in plain Python types: cfn-lint's own types also hold line numbers."""
    return json.loads(json.dumps(item))
