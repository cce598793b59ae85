"""Which alarms of schedule.yaml are raised when something fails: the function runs, for one secret and in a sweep, and the alarms
are evaluated on the metrics in its log.

Each period has the same data. Of AWS's own metrics, the two that alarms use are counted as AWS counts them: the invocations, and
the messages of the queue DeadLetters, which gets one if an invocation by the schedule fails."""

import os
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from emulator import INVALID_GRANT, Invocation, Provider, Store, milliseconds_from_now
from template import STACK, Stack

NAME, PREFIX = "myapp/prod/upwork", "myapp/prod/"
DAY = 86_400
# Due with the margin of 900 seconds, and not yet below ExpiryAlarmSeconds.
DUE, FRESH, EXPIRED = 600, 3600, -60

COMPARISONS = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
}
STATISTICS = {"Sum": sum, "Minimum": min}


def is_raised(alarm: dict, points: list[tuple]) -> bool:
    """Whether this alarm is raised if each of its periods has these points: namespace, name, dimensions and value of a metric."""
    dimensions = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
    metric = alarm["Namespace"], alarm["MetricName"], dimensions
    values = [value for *each, value in points if tuple(each) == metric]
    if not values:
        return alarm["TreatMissingData"] == "breaching"
    return COMPARISONS[alarm["ComparisonOperator"]](STATISTICS[alarm["Statistic"]](values), float(alarm["Threshold"]))


def points_in(lines: list[dict]) -> list[tuple]:
    """What CloudWatch Logs reads from lines in the Embedded Metric Format."""
    return [
        (directive["Namespace"], metric["Name"], {name: line[name] for name in dimensions}, line[metric["Name"]])
        for line in lines
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", ())
        for dimensions in directive["Dimensions"]
        for metric in directive["Metrics"]
    ]


class World:
    """What a scenario changes: the token secrets, the provider, the calls that Secrets Manager refuses, and the settings."""

    def __init__(self, stack: ExitStack):
        self.provider = Provider(stack)
        self.secrets, self.settings = {}, {}
        self.error = lambda operation: None

    def tokens(self, seconds_left: int, count: int = 1, path: str = "/token", **members) -> None:
        document = self.provider.token(path, seconds_left, **members)
        self.secrets |= {NAME if number == 0 else f"{NAME}-{number}": document for number in range(count)}

    def has_exchanged(self) -> bool:
        return bool(self.provider.exchanges)


def a_token_is_refreshed(world: World):
    in_a_month = milliseconds_from_now(30 * DAY)
    world.tokens(DUE, refreshTokenExpiresAt=in_a_month, clientSecretExpiresAt=in_a_month)


def a_token_is_not_due(world: World):
    in_a_month = milliseconds_from_now(30 * DAY)
    world.tokens(FRESH, refreshTokenExpiresAt=in_a_month, clientSecretExpiresAt=in_a_month)


def the_provider_fails(world: World):
    world.tokens(DUE)
    world.provider.responses["/token"] = 500, {}


def the_provider_fails_until_a_token_has_expired(world: World):
    world.tokens(EXPIRED)
    world.provider.responses["/token"] = 500, {}


def the_consent_is_withdrawn(world: World):
    world.tokens(DUE)
    world.provider.responses["/token"] = 400, INVALID_GRANT


def new_tokens_cannot_be_stored(world: World):
    world.tokens(DUE)
    # The claim before the exchange is accepted.
    world.error = lambda operation: "AccessDeniedException" if operation == "PutSecretValue" and world.has_exchanged() else None


def a_refresh_token_expires_in_six_days(world: World):
    world.tokens(FRESH, refreshTokenExpiresAt=milliseconds_from_now(6 * DAY))


def a_clients_secret_expires_in_six_days(world: World):
    world.tokens(FRESH, clientSecretExpiresAt=milliseconds_from_now(6 * DAY))


def the_provider_returns_429(world: World):
    world.tokens(DUE, count=30)
    world.provider.responses["/token"] = 429, {"error": "slow_down"}


def no_secret_exists(world: World):
    pass


def reading_is_not_allowed(world: World):
    world.tokens(FRESH)
    world.error = lambda operation: "AccessDeniedException"


def a_setting_is_wrong(world: World):
    world.settings["CLAIM"] = "sometimes"


# The alarms that are raised: for one secret, and for a sweep. A failure of one secret in a sweep does not fail the invocation.
SCENARIOS = {
    a_token_is_refreshed: (set(), set()),
    a_token_is_not_due: (set(), set()),
    the_provider_fails: ({"RunFailed", "DeadLettersCame"}, {"RunFailed"}),
    the_provider_fails_until_a_token_has_expired: (
        {"RunFailed", "DeadLettersCame", "TokenExpires"},
        {"RunFailed", "TokenExpires"},
    ),
    the_consent_is_withdrawn: ({"RunFailed", "DeadLettersCame", "ConsentNeeded"}, {"RunFailed", "ConsentNeeded"}),
    new_tokens_cannot_be_stored: ({"RunFailed", "DeadLettersCame", "TokenNotStored"}, {"RunFailed", "TokenNotStored"}),
    a_refresh_token_expires_in_six_days: ({"RefreshTokenExpires"}, {"RefreshTokenExpires"}),
    a_clients_secret_expires_in_six_days: ({"ClientSecretExpires"}, {"ClientSecretExpires"}),
    the_provider_returns_429: ({"RunFailed", "DeadLettersCame"}, {"RunFailed", "TokensNotReached"}),
    no_secret_exists: ({"RunFailed", "DeadLettersCame"}, {"NothingRan"}),
    reading_is_not_allowed: ({"RunFailed", "DeadLettersCame"}, {"RunFailed", "DeadLettersCame", "NothingRan"}),
    # The process ends before it writes any metric.
    a_setting_is_wrong: ({"DeadLettersCame"}, {"DeadLettersCame", "NothingRan"}),
}
# It cannot be raised for one secret.
ONLY_IN_SWEEPS = {"TokensNotReached"}

ONE, SWEEP = Stack(SecretName=NAME), Stack(SecretPrefix=PREFIX)


def raised(stack: Stack, points: list[tuple]) -> set[str]:
    return {name for name, alarm in stack.of_type("AWS::CloudWatch::Alarm").items() if is_raised(alarm, points)}


def run(scenario, stack: Stack) -> tuple[set[str], list[dict]]:
    """Runs a scenario. Returns the alarms that it raises, and the lines of the log."""
    with ExitStack() as servers:
        world = World(servers)
        scenario(world)
        store = Store(servers, world.secrets, world.error)
        variables = stack.resources["Function"]["Properties"]["Environment"]["Variables"]
        settings = {name: str(value) for name, value in variables.items()} | {"AWS_LAMBDA_FUNCTION_NAME": STACK}
        invocation = Invocation(servers, store, settings | world.settings, seconds=12)
    points = points_in(invocation.lines)
    points.append(("AWS/Lambda", "Invocations", {"FunctionName": STACK}, 1))
    queue = {"QueueName": stack.value_of("DeadLetters", "QueueName")}
    points += [("AWS/SQS", "NumberOfMessagesSent", queue, 1)] * invocation.has_failed
    return raised(stack, points), invocation.lines


class Alarms(unittest.TestCase):
    def test_each_failure_raises_its_alarms_and_no_others_and_a_healthy_run_none(self):
        # The scenarios mostly wait, for retries.
        with ThreadPoolExecutor(os.cpu_count() * 2) as pool:
            runs = {(scenario, stack): pool.submit(run, scenario, stack) for scenario in SCENARIOS for stack in (ONE, SWEEP)}
        for (scenario, stack), done in runs.items():
            expected = SCENARIOS[scenario][stack is SWEEP]
            with self.subTest(scenario.__name__, sweep=stack is SWEEP):
                found, lines = done.result()
                self.assertEqual(found, expected, lines)

    def test_missing_runs_raise_nothing_ran_and_no_other_alarm(self):
        for stack in (ONE, SWEEP):
            self.assertEqual(raised(stack, []), {"NothingRan"})

    def test_every_alarm_of_the_template_has_a_scenario(self):
        for stack, number, missing in [(ONE, 0, ONLY_IN_SWEEPS), (SWEEP, 1, set())]:
            by_scenario = set().union(*(expected[number] for expected in SCENARIOS.values())) | {"NothingRan"}
            self.assertEqual(by_scenario | missing, stack.of_type("AWS::CloudWatch::Alarm").keys())
