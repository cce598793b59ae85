"""Runs the commands of docs/deploy.md, unchanged, against moto, and checks the resources that moto creates.

moto keeps `Ref AWS::NoValue` in lists, and it reports CREATE_COMPLETE also for types that it does not create. So it gets the template
without conditions, and with values in place of references to those types. test_stack.py deploys the template as it is, to ministack."""

import base64
import hashlib
import json
import logging
import os
import tempfile
import unittest
import zipfile
from pathlib import Path

import boto3
import pages
import yaml
from moto.cloudformation.parsing import resource_class_from_type
from template import ACCOUNT, FILE, REGION, SECRET, STACK, Stack

BUCKET = "your-bucket-of-tests"


class ForMoto(Stack):
    """The template with references only to what moto creates: as Fn::Sub."""

    def value_of(self, logical_id: str, attribute: str) -> str:
        value = super().value_of(logical_id, attribute)
        if resource_class_from_type(self.template["Resources"][logical_id]["Type"]) is None:
            return value
        return f"${{{logical_id}}}" if attribute == "Ref" else f"${{{logical_id}.{attribute}}}"

    def text(self) -> str:
        def sub(item):
            match item:
                case str() if "${" in item:
                    return {"Fn::Sub": item}
                case dict():
                    return {key: sub(value) for key, value in item.items() if key != "Condition" or not isinstance(value, str)}
                case list():
                    return list(map(sub, item))
            return item

        return json.dumps({"Parameters": self.template["Parameters"], "Resources": sub(self.resources), "Outputs": sub(self.outputs)})


def client(service: str):
    credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client(service, endpoint_url=os.environ["PEER_MOTO_URL"], region_name=REGION, **credentials)


class Deploy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        logging.getLogger("moto").setLevel(logging.ERROR)
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.zip = cls.folder / "target/lambda/token-refresher/bootstrap.zip"
        cls.zip.parent.mkdir(parents=True)
        with zipfile.ZipFile(cls.zip, "w") as archive:
            archive.writestr("bootstrap", "a function")
        client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        copy, deploy = (command.replace("YOUR-BUCKET", BUCKET) for command in pages.commands("Deploy", "aws "))
        given = dict(each.split("=") for each in deploy.split(" --parameter-overrides ")[1].split())
        (cls.folder / FILE.name).write_text(ForMoto(**given).text())
        for command in (copy, deploy):
            done = pages.shell(command, cls.folder, AWS_ENDPOINT_URL=os.environ["PEER_MOTO_URL"])
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        cls.function = client("lambda").get_function(FunctionName=STACK)

    @classmethod
    def tearDownClass(cls):
        client("cloudformation").delete_stack(StackName=STACK)

    def test_the_function_has_the_uploaded_code_and_the_settings_of_the_page(self):
        created = self.function["Configuration"]
        self.assertEqual(created["CodeSha256"], base64.b64encode(hashlib.sha256(self.zip.read_bytes()).digest()).decode())
        settings = (created["Runtime"], created["Handler"], created["MemorySize"], created["Timeout"])
        self.assertEqual(settings, ("provided.al2023", "bootstrap", 128, 60))
        variables = {"SECRET_ID": SECRET, "REFRESH_MARGIN_SECONDS": "900", "CLAIM": "always"}
        self.assertEqual(created["Environment"]["Variables"], variables)
        self.assertNotIn("Concurrency", self.function)

    def test_the_role_has_the_policy_of_the_page(self):
        role = self.function["Configuration"]["Role"].rsplit("/", 1)[1]
        document = client("iam").get_role_policy(RoleName=role, PolicyName="function")["PolicyDocument"]
        # moto returns the document in Python syntax, which is also YAML.
        document = yaml.safe_load(document) if isinstance(document, str) else document
        secret, *others = document["Statement"]
        (shown,) = pages.blocks("Without the template", "json")
        self.assertEqual([secret], json.loads(shown)["Statement"])
        # Fn::GetAtt of a log group ends in `:*` on AWS, but not in moto.
        log = self.log_group()["arn"].removesuffix(":*")
        queue = client("sqs").get_queue_attributes(QueueUrl=self.queue(), AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
        self.assertEqual([each["Resource"] for each in others], [log, queue, bus])

    def queue(self) -> str:
        (url,) = (url for url in client("sqs").list_queues()["QueueUrls"] if "DeadLetters" in url)
        return url

    def log_group(self) -> dict:
        (group,) = client("logs").describe_log_groups(logGroupNamePrefix=STACK)["logGroups"]
        return group

    def test_the_queue_is_encrypted_and_the_log_has_a_retention(self):
        queue = client("sqs").get_queue_attributes(QueueUrl=self.queue(), AttributeNames=["All"])["Attributes"]
        self.assertEqual((queue["SqsManagedSseEnabled"], queue["MessageRetentionPeriod"]), ("true", "1209600"))
        self.assertEqual(int(self.log_group()["retentionInDays"]), 30)

    def test_there_is_one_topic_and_the_dashboard_names_the_log(self):
        topics = [topic["TopicArn"] for topic in client("sns").list_topics()["Topics"]]
        self.assertEqual(len([arn for arn in topics if "AlarmTopic" in arn]), 1)
        body = client("cloudwatch").get_dashboard(DashboardName=f"{STACK}-{REGION}")["DashboardBody"]
        widgets = json.loads(body)["widgets"]
        self.assertTrue(any(self.log_group()["logGroupName"] in widget["properties"].get("query", "") for widget in widgets))
