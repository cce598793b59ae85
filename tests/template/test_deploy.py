"""Runs the commands of docs/deploy.md, unchanged, against moto, and checks what they create there.

moto does not expand Fn::ForEach, and it reports CREATE_COMPLETE also for resources that it does not create. So the packaged template is
expanded before it is deployed, and every test checks the resource itself."""

import base64
import hashlib
import json
import logging
import os
import re
import tempfile
import unittest
import zipfile
from pathlib import Path

import boto3
import pages
import template
import yaml
from moto.cloudformation.parsing import resource_class_from_type
from template import FILE, NO_VALUE, REGION, STACK, Stack, plain

BUCKET = "your-bucket-of-tests"
# The file that `package` writes and `deploy` reads.
PACKAGED = "target/packaged.yaml"
# The types that moto creates. It only reports the others, and their attributes cannot be referenced.
CREATED = {
    "AWS::CloudWatch::Dashboard",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Role",
    "AWS::Lambda::Function",
    "AWS::Logs::LogGroup",
    "AWS::SNS::Topic",
    "AWS::SQS::Queue",
}


def client(service: str):
    credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client(service, endpoint_url=os.environ["PEER_MOTO_URL"], region_name=REGION, **credentials)


def for_moto(packaged: Path, names: list[str]) -> dict:
    """The packaged template with loops and conditions expanded, and with values in place of references to what moto does not create."""
    stack = Stack(names, file=packaged)
    expanded = plain(stack.expanded)
    del expanded["Transform"]
    resources = expanded["Resources"]
    missing = {name for name, each in resources.items() if each["Type"] not in CREATED}

    def resolve(item):
        match item:
            case {"Fn::GetAtt": [str(name), str(attribute)]} if name in missing:
                return stack.value_of(name, attribute)
            case {"Ref": "AWS::NoValue"}:
                return NO_VALUE
            case {"Ref": str(name)} if name in missing:
                return stack.ref(name)
            case {"Fn::Sub": str(text)}:
                known = re.sub(
                    r"\$\{((\w+)\.\w+)\}", lambda match: stack.get(match[1]) if match[2] in missing else match[0], text
                )
                return {"Fn::Sub": known}
            case {"Fn::If": [condition, yes, no]}:
                return resolve(yes if stack.holds(condition) else no)
            case dict():
                return {
                    key: value for key, value in ((key, resolve(value)) for key, value in item.items()) if value is not NO_VALUE
                }
            case list():
                return [each for each in map(resolve, item) if each is not NO_VALUE]
        return item

    # moto keeps Ref AWS::NoValue in lists, and resolves references to resources whose condition is false.
    expanded["Resources"] = {name: resolve(each) for name, each in resources.items() if stack.holds(each.get("Condition"))}
    expanded["Outputs"] = resolve(expanded["Outputs"])
    return expanded


class Deploy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / FILE.name).write_bytes(FILE.read_bytes())
        cls.zip = cls.folder / "target/lambda/token-refresher/bootstrap.zip"
        cls.zip.parent.mkdir(parents=True)
        with zipfile.ZipFile(cls.zip, "w") as archive:
            archive.writestr("bootstrap", "a function")
        cls.s3 = client("s3")
        cls.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        cls.package, cls.deploy = pages.commands("Deploy", "aws cloudformation")
        cls.add, cls.outputs = pages.commands("Adding a token", "aws cloudformation")
        (cls.attach,) = pages.commands("Adding a token", "aws iam")

        before = cls.files()
        cls.run_command(cls.package.replace("YOUR-BUCKET", BUCKET))
        cls.written = cls.files() - before
        cls.packaged = cls.folder / PACKAGED
        cls.template = template.source(cls.packaged)
        cls.deploy_names(cls.deploy, ["myapp/prod/upwork"])

    @classmethod
    def tearDownClass(cls):
        client("cloudformation").delete_stack(StackName=STACK)

    @classmethod
    def files(cls) -> set[str]:
        return {str(file.relative_to(cls.folder)) for file in cls.folder.rglob("*") if file.is_file()}

    @classmethod
    def run_command(cls, command: str):
        done = pages.shell(command, cls.folder, AWS_ENDPOINT_URL=os.environ["PEER_MOTO_URL"])
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    @classmethod
    def deploy_names(cls, command: str, names: list[str]):
        """Runs a deploy command of the page with an expanded template in place of the packaged one, which moto cannot read."""
        assert f"SecretNames={','.join(names)}" in command and f" {PACKAGED} " in command, command
        original = cls.packaged.read_bytes()
        expanded = for_moto(cls.packaged, names)
        cls.packaged.write_text(json.dumps(expanded))
        try:
            cls.run_command(command)
        finally:
            cls.packaged.write_bytes(original)
        return expanded

    def test_package_writes_one_file_below_target(self):
        # Git ignores target/.
        self.assertEqual(self.written, {PACKAGED})

    def test_package_uploads_the_zip_and_keeps_the_loops(self):
        code = self.template["Resources"]["Function"]["Properties"]["Code"]
        self.assertEqual(code["S3Bucket"], BUCKET)
        uploaded = self.s3.get_object(Bucket=BUCKET, Key=code["S3Key"])["Body"].read()
        self.assertEqual(uploaded, self.zip.read_bytes())
        # Everything else is unchanged.
        source = plain(template.source())
        source["Resources"]["Function"]["Properties"]["Code"] = plain(code)
        self.assertEqual(plain(self.template), source)

    def test_deploy_creates_the_function_with_the_uploaded_code(self):
        function = client("lambda").get_function(FunctionName=STACK)
        created = function["Configuration"]
        digest = base64.b64encode(hashlib.sha256(self.zip.read_bytes()).digest()).decode()
        self.assertEqual(created["CodeSha256"], digest)
        self.assertEqual(
            (created["Runtime"], created["Handler"], created["MemorySize"], created["Timeout"]),
            ("provided.al2023", "bootstrap", 128, 60),
        )
        variables = {"SECRET_ID": "myapp/prod/upwork", "REFRESH_MARGIN_SECONDS": "900", "CLAIM": "always"}
        self.assertEqual({name: str(value) for name, value in created["Environment"]["Variables"].items()}, variables)
        self.assertEqual(function["Concurrency"], {"ReservedConcurrentExecutions": 1})

    def test_deploy_creates_roles_with_the_policies_of_the_template(self):
        iam = client("iam")
        role = client("lambda").get_function(FunctionName=STACK)["Configuration"]["Role"].rsplit("/", 1)[1]
        (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
        document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        # moto returns the document in Python syntax, which is also YAML.
        document = yaml.safe_load(document) if isinstance(document, str) else document
        queue = client("sqs").get_queue_attributes(QueueUrl=self.queue(), AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        # Fn::GetAtt of a log group ends in `:*` on AWS, but not in moto.
        log = client("logs").describe_log_groups(logGroupNamePrefix=STACK)["logGroups"][0]["arn"].removesuffix(":*")
        bus = f"arn:aws:events:{REGION}:123456789012:event-bus/default"
        expected = [(["logs:CreateLogStream", "logs:PutLogEvents"], log), ("sqs:SendMessage", queue), ("events:PutEvents", bus)]
        self.assertEqual([(each["Action"], each["Resource"]) for each in document["Statement"]], expected)

    def queue(self) -> str:
        (url,) = (url for url in client("sqs").list_queues()["QueueUrls"] if "DeadLetters" in url)
        return url

    def test_deploy_creates_an_encrypted_queue_a_log_with_a_retention_a_topic_and_the_dashboard(self):
        queue = client("sqs").get_queue_attributes(QueueUrl=self.queue(), AttributeNames=["All"])["Attributes"]
        self.assertEqual((queue["SqsManagedSseEnabled"], queue["MessageRetentionPeriod"]), ("true", "1209600"))
        (group,) = client("logs").describe_log_groups(logGroupNamePrefix=STACK)["logGroups"]
        self.assertEqual(group["retentionInDays"], 30)
        topics = [topic["TopicArn"] for topic in client("sns").list_topics()["Topics"]]
        self.assertEqual(len([arn for arn in topics if "AlarmTopic" in arn]), 1)
        body = client("cloudwatch").get_dashboard(DashboardName=f"{STACK}-{REGION}")["DashboardBody"]
        self.assertEqual(json.loads(body), json.loads(Stack().resources["Dashboard"]["Properties"]["DashboardBody"]))

    def test_the_commands_of_the_page_add_a_token_and_attach_its_policy_for_readers(self):
        before = client("lambda").get_function(FunctionName=STACK)["Configuration"]
        expanded = self.deploy_names(self.add, ["myapp/prod/upwork", "myapp/prod/xero"])
        self.assertEqual(sum(each["Type"] == "AWS::Scheduler::Schedule" for each in expanded["Resources"].values()), 2)
        after = client("lambda").get_function(FunctionName=STACK)["Configuration"]
        self.assertEqual(after, before)

        # moto loses the outputs of a stack that was created by a change set: this only checks that the command runs.
        self.run_command(self.outputs)
        iam = client("iam")
        (arn,) = (policy["Arn"] for policy in iam.list_policies(Scope="Local")["Policies"] if "xero" in policy["Arn"])
        iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []}))
        self.run_command(self.attach.replace("YOUR-READER", "reader").replace(" ARN", f" {arn}"))
        (attached,) = iam.list_attached_role_policies(RoleName="reader")["AttachedPolicies"]
        document = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId="v1")["PolicyVersion"]["Document"]
        resource = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:myapp/prod/xero-??????"
        expected = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": resource}
        self.assertEqual(document["Statement"], [expected])

    def test_moto_creates_these_types_and_no_others(self):
        # If a new version of moto creates another type, a test above should check that resource.
        logging.getLogger("moto").setLevel(logging.ERROR)
        types = {each["Type"] for each in Stack(CreateSecrets="yes", AlarmEmail="someone@example.com").resources.values()}
        self.assertEqual({each for each in types if resource_class_from_type(each) is not None}, CREATED)

    def test_sam_validate_accepts_the_template_with_lint_only(self):
        (command,) = pages.commands("With the SAM CLI", "sam validate")
        done = pages.shell(command, self.folder)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        # If this no longer fails, the page can leave its warning out.
        done = pages.shell(command.replace("--lint ", ""), self.folder, AWS_ENDPOINT_URL=os.environ["PEER_MOTO_URL"])
        self.assertNotEqual(done.returncode, 0)
        (reported,) = re.findall("reports `(.+?)`", pages.section("With the SAM CLI"))
        self.assertIn(reported, done.stdout + done.stderr)

    def test_sam_deploy_uploads_the_zip_and_the_loops_and_requests_the_stack(self):
        (command,) = pages.commands("With the SAM CLI", "sam deploy")
        self.assertIn("--resolve-s3", command)
        # SAM's own bucket is another stack, which moto would have to create.
        command = command.replace("--resolve-s3", f"--s3-bucket {BUCKET} --s3-prefix sam").replace(STACK, f"{STACK}-by-sam")
        done = pages.shell(command, self.folder, AWS_ENDPOINT_URL=os.environ["PEER_MOTO_URL"])
        # The test ends here: moto receives the request for the stack, and cannot create it.
        self.assertIn("when calling the CreateChangeSet operation", done.stdout + done.stderr)
        self.assertIn('"SecretNames": "myapp/prod/upwork"', done.stdout)
        objects = [each["Key"] for each in self.s3.list_objects_v2(Bucket=BUCKET, Prefix="sam/")["Contents"]]
        uploaded = {key.endswith(".template"): self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in objects}
        self.assertEqual(uploaded[False], self.zip.read_bytes())
        sent = self.folder / "sent.yaml"
        sent.write_bytes(uploaded[True])
        source, sent = plain(template.source()), plain(template.source(sent))
        del source["Resources"]["Function"]["Properties"]["Code"]
        (key,) = (key for key in objects if not key.endswith(".template"))
        self.assertEqual(sent["Resources"]["Function"]["Properties"].pop("Code"), {"S3Bucket": BUCKET, "S3Key": key})
        self.assertEqual(sent, source)
