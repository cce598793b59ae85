"""A CloudFormation template with its functions replaced by values, for given parameters, by CloudFormation's own rules.

cfn-lint and the SAM CLI accept references that CloudFormation rejects, such as `&{Name}` in the values of a loop. So this module is stricter: a
transform, and each reference that nothing replaces, raises Refused. Names and ARNs that only a deployment knows are
invented. Makes no network call and writes nothing."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "schedule.yaml"

REGION, ACCOUNT = "eu-central-1", "123456789012"
STACK = "token-refresher"
SECRET = "myapp/prod/upwork"
# The parameters without which schedule.yaml cannot be deployed.
REQUIRED = {"CodeS3Bucket": "your-bucket", "CodeS3Key": "token-refresher/0.1.0.zip"}

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
    "AWS::CloudWatch::Alarm": {"Ref": f"{STACK}-{{id}}", "Arn": f"{ARN.format('cloudwatch')}alarm:{STACK}-{{id}}"},
    "AWS::Events::Rule": {"Ref": f"{STACK}-{{id}}", "Arn": f"{ARN.format('events')}rule/{STACK}-{{id}}"},
    "AWS::IAM::ManagedPolicy": {"Ref": f"arn:aws:iam::{ACCOUNT}:policy/{STACK}-{{id}}"},
    "AWS::IAM::Role": {"Ref": f"{STACK}-{{id}}", "Arn": f"arn:aws:iam::{ACCOUNT}:role/{STACK}-{{id}}"},
    "AWS::Lambda::Function": {"Ref": STACK, "Arn": f"{ARN.format('lambda')}function:{STACK}"},
    "AWS::Logs::LogGroup": {"Ref": f"{STACK}-{{id}}", "Arn": f"{ARN.format('logs')}log-group:{STACK}-{{id}}:*"},
    "AWS::SNS::Topic": {"Ref": f"{ARN.format('sns')}{STACK}-{{id}}"},
    "AWS::SQS::Queue": {"Arn": f"{ARN.format('sqs')}{STACK}-{{id}}", "QueueName": f"{STACK}-{{id}}"},
    "AWS::SecretsManager::Secret": {"Ref": f"{ARN.format('secretsmanager')}secret:{{name}}-AbCdEf"},
}

# Besides Ref, Fn::GetAtt and Fn::Sub.
FUNCTIONS = {f"Fn::{name}" for name in ("And", "Equals", "If", "Not", "Or", "Split")}
NO_VALUE = object()
VARIABLE = re.compile(r"\$\{(!?)(.*?)\}")


class Refused(Exception):
    """CloudFormation refuses the template, or the values of its parameters."""


class Loader(yaml.SafeLoader):
    """Reads the short forms of the functions (`!Sub`) as the long ones (`Fn::Sub`)."""


def long_form(loader: Loader, function: str, node: yaml.Node) -> dict:
    construct = {"scalar": loader.construct_scalar, "sequence": loader.construct_sequence, "mapping": loader.construct_mapping}
    value = construct[node.id](node, **({} if node.id == "scalar" else {"deep": True}))
    if function == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {function if function in ("Ref", "Condition") else f"Fn::{function}": value}


Loader.add_multi_constructor("!", long_form)


@functools.cache
def parsed(text: str) -> dict:
    """A template with its functions in their long form. Callers must not modify it."""
    return yaml.load(text, Loader)


def source() -> dict:
    """schedule.yaml, with its functions. Callers must not modify it."""
    return parsed(FILE.read_text())


def secret_arn(name: str) -> str:
    return f"{ARN.format('secretsmanager')}secret:{name}-AbCdEf"


def require(holds, problem: str):
    if not holds:
        raise Refused(problem)


def references(item) -> Iterator[str]:
    """The names that an item refers to. Refuses what CloudFormation leaves as it is, or does not know."""
    match item:
        case {"Ref": str(name)} if len(item) == 1:
            yield name
        case {"Fn::GetAtt": [str(name), str(_)]} if len(item) == 1:
            yield name
        case {"Fn::Sub": str(text)} if len(item) == 1:
            for is_literal, name in VARIABLE.findall(text):
                require(is_literal or re.fullmatch(r"[\w.:]+", name), f"Fn::Sub with ${{{name}}}")
                if not is_literal:
                    yield name.split(".")[0]
            yield from references(VARIABLE.sub("", text))
        case dict():
            for key, value in item.items():
                if key == "Ref" or key.startswith("Fn::"):
                    require(key in FUNCTIONS and len(item) == 1, f"the function {key} in {item}")
                yield from references(key)
                yield from references(value)
        case list():
            for each in item:
                yield from references(each)
        case str():
            require("&{" not in item and "${" not in item, f"a reference that nothing replaces: {item}")


def is_accepted(parameter: dict, value: str) -> bool:
    """Whether CloudFormation accepts a value. A pattern is for the whole value, and in a list for each element."""
    values = value.split(",") if parameter["Type"] == "CommaDelimitedList" else [value]
    if "AllowedPattern" in parameter and not all(re.fullmatch(parameter["AllowedPattern"], each) for each in values):
        return False
    if "AllowedValues" in parameter and value not in map(str, parameter["AllowedValues"]):
        return False
    if parameter["Type"] == "Number":
        return parameter.get("MinValue", float("-inf")) <= float(value) <= parameter.get("MaxValue", float("inf"))
    return True


class Stack:
    """The stack that a deployment with these parameters creates: from schedule.yaml, or from the text of another template."""

    def __init__(self, text: str | None = None, **given):
        if text is None:
            given = REQUIRED | ({} if "SecretPrefix" in given else {"SecretName": SECRET}) | given
        self.template = parsed(text) if text else source()
        require("Transform" not in self.template, "a transform")
        declared = self.template.get("Parameters", {})
        require(given.keys() <= declared.keys(), f"unknown parameters: {given.keys() - declared.keys()}")
        self.parameters = {}
        for name, each in declared.items():
            require(name in given or "Default" in each, f"the parameter {name} has no value")
            value = str(given.get(name, each.get("Default")))
            require(is_accepted(each, value), f"{name}={value!r}")
            self.parameters[name] = value.split(",") if each["Type"] == "CommaDelimitedList" else value
        # CloudFormation checks names before conditions: also those in the branch of an Fn::If that is not taken.
        constants = self.parameters.keys() | PSEUDO.keys()
        for part, known in {
            "Rules": constants,
            "Conditions": constants,
            "Resources": constants | self.template["Resources"].keys() | {"AWS::NoValue"},
            "Outputs": constants | self.template["Resources"].keys(),
        }.items():
            for name in references(self.template.get(part, {})):
                require(name in known, f"{part} refer to {name}")

    @functools.cached_property
    def resources(self) -> dict[str, dict]:
        return self.existing("Resources")

    @functools.cached_property
    def outputs(self) -> dict[str, dict]:
        return self.existing("Outputs")

    def existing(self, part: str) -> dict[str, dict]:
        """The items of a part whose conditions hold, without their functions."""
        items = self.template.get(part, {}).items()
        return {name: self.resolve(each) for name, each in items if self.exists(each)}

    def exists(self, item: dict) -> bool:
        return "Condition" not in item or self.holds({"Condition": item["Condition"]})

    @functools.cached_property
    def conditions(self) -> dict[str, bool]:
        return {name: self.holds(each) for name, each in self.template.get("Conditions", {}).items()}

    def holds(self, condition: dict) -> bool:
        match condition:
            case {"Condition": str(name)}:
                require(name in self.template.get("Conditions", {}), f"unknown condition {name}")
                return self.holds(self.template["Conditions"][name])
            case {"Fn::Equals": [one, other]}:
                return self.resolve(one) == self.resolve(other)
            case {"Fn::Not": [inner]}:
                return not self.holds(inner)
            case {"Fn::And": [_, _, *_] as inner} if len(inner) <= 10:
                return all([self.holds(each) for each in inner])
            case {"Fn::Or": [_, _, *_] as inner} if len(inner) <= 10:
                return any([self.holds(each) for each in inner])
        raise Refused(f"no condition: {condition}")

    def value_of(self, logical_id: str, attribute: str) -> str:
        resource = self.template["Resources"][logical_id]
        require(self.exists(resource), f"{logical_id} is referenced, but its condition is false")
        values = VALUES.get(resource["Type"], {})
        require(attribute in values, f"{resource['Type']} has no {attribute} here")
        name = self.resolve(resource.get("Properties", {}).get("Name", ""))
        return values[attribute].format(id=logical_id, name=name)

    def ref(self, name: str):
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in PSEUDO:
            return PSEUDO[name]
        return self.parameters[name] if name in self.parameters else self.value_of(name, "Ref")

    def substituted(self, text: str) -> str:
        def value(match) -> str:
            is_literal, name = match.groups()
            found = f"${{{name}}}" if is_literal else self.value_of(*name.split(".", 1)) if "." in name else self.ref(name)
            require(isinstance(found, str), f"Fn::Sub with {name}, which is no string")
            return found

        return VARIABLE.sub(value, text)

    def resolve(self, item):
        match item:
            case list():
                return [each for each in map(self.resolve, item) if each is not NO_VALUE]
            case {"Ref": name}:
                return self.ref(name)
            case {"Fn::GetAtt": [logical_id, attribute]}:
                return self.value_of(logical_id, attribute)
            case {"Fn::Sub": text}:
                return self.substituted(text)
            case {"Fn::If": [condition, yes, no]}:
                return self.resolve(yes if self.holds({"Condition": condition}) else no)
            case {"Fn::Split": [separator, text]}:
                return self.resolve(text).split(separator)
            case dict():
                require(not any(key.startswith("Fn::") for key in item), f"a function in the wrong place or form: {item}")
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
        return [each["PolicyDocument"] for each in self.of_type("AWS::IAM::Role")[role]["Policies"]]

    def broken_rules(self) -> list[str]:
        """The messages with which CloudFormation would reject these parameters."""
        assertions = [each for rule in self.template.get("Rules", {}).values() for each in rule["Assertions"]]
        return [each["AssertDescription"] for each in assertions if not self.holds(each["Assert"])]
