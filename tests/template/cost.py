"""Prints what a token costs per month, as docs/operations.md shows it: python tests/template/cost.py   (needs TOKEN_REFRESHER_BIN)

Calls, versions, metrics and bytes of log are counted: the release binary skips and refreshes a token of each lifetime, alone and in a
sweep. Secrets Manager and the provider are small servers on loopback. Prices are those of us-east-1 as published in November 2026."""

import math
import os
import sys
import textwrap
from contextlib import ExitStack
from dataclasses import dataclass

from emulator import Invocation, Provider, Store, arn, milliseconds_from_now

# https://aws.amazon.com/secrets-manager/pricing/
SECRET_MONTH, SECRETS_MANAGER_CALL = 0.40, 0.05 / 10_000
# https://aws.amazon.com/lambda/pricing/: a request, a GB-second on arm64, and the free amounts of both per month.
REQUEST, GB_SECOND, FREE_REQUESTS, FREE_GB_SECONDS = 0.20 / 1e6, 0.0000133334, 1e6, 400_000
# https://aws.amazon.com/eventbridge/pricing/: an invocation by Scheduler, and the free number per month.
SCHEDULED_EVENT, FREE_SCHEDULED_EVENTS = 1.00 / 1e6, 14e6
# https://aws.amazon.com/cloudwatch/pricing/: a metric, an alarm and a dashboard per month, a GB of log, and the free amounts.
METRIC_MONTH, ALARM_MONTH, DASHBOARD_MONTH, LOG_GB = 0.30, 0.10, 3.00, 0.50
FREE_METRICS, FREE_ALARMS, FREE_DASHBOARDS, FREE_LOG_GB = 10, 10, 3, 5
LOG_EVENT_OVERHEAD_BYTES = 26

MONTH_SECONDS = 30 * 86_400
PERIOD_SECONDS, MARGIN_SECONDS = 300, 900  # the defaults of schedule.yaml: test_cost.py compares them
MEMORY_GB = 128 / 1024
# Not measured, because there is no account: high estimates of the time that Lambda bills for a run of a warm process.
SKIP_SECONDS, REFRESH_SECONDS = 0.1, 1.0

# Lifetime of a token, and CLAIM. With two versions per refresh the second token would exceed the quota of versions.
TOKENS = {"1 h": (3600, "always"), "30 min, `CLAIM=never`": (1800, "never"), "24 h": (86_400, "always")}


SECRET = "myapp/prod/upwork"
# What Secrets Manager sends after a refresh.
MOVED = {"source": "aws.secretsmanager", "detail-type": "Secret Label Updated", "resources": [arn(SECRET)]}
MOVED |= {"detail": {"name": SECRET, "labelUpdated": "AWSCURRENT"}}


class Run:
    """One invocation for a token of this lifetime that was issued `age` seconds ago."""

    def __init__(self, lifetime: int, age: int, claim: str, event: dict | None = None, secret_id: str = SECRET):
        settings = {"AWS_LAMBDA_FUNCTION_NAME": "token-refresher", "SECRET_ID": secret_id, "CLAIM": claim}
        with ExitStack() as stack:
            provider = Provider(stack)
            issued = {"access_token": "unseen-access-2", "refresh_token": "unseen-refresh-2", "expires_in": lifetime}
            provider.responses["/token"] = 200, issued
            token = provider.token("/token", lifetime - age, refreshedAt=milliseconds_from_now(-age))
            store = Store(stack, {SECRET: token})
            ((labels, _, _),) = store.secrets[SECRET].values()
            labels.append("OAUTH_STAGED")
            invocation = Invocation(stack, store, settings, seconds=30, event=event)
        assert invocation.responded.is_set(), "the function did not respond"
        self.result, self.exchanges, self.calls = invocation.result, provider.exchanges["/token"], store.calls
        self.outcome = self.result.get("outcome")
        self.new_versions = len(store.secrets[SECRET]) - 1
        self.log_bytes = invocation.output_bytes + LOG_EVENT_OVERHEAD_BYTES * len(invocation.lines)
        # CloudWatch bills a metric once for each set of dimensions.
        self.metrics = set()
        for line in invocation.lines:
            for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
                names = (metric["Name"] for metric in directive["Metrics"])
                self.metrics |= {(name, frozenset(dimensions)) for name in names for dimensions in directive["Dimensions"]}
        # The line of a sweep includes the calls of its runs.
        counted = max(line.get("calls", 0) for line in invocation.lines)
        assert counted == self.calls, "the log has another number of calls"


@dataclass
class Month:
    """What one token needs in one month."""

    refreshes: float
    calls: float
    versions: float
    scheduled_runs: float
    runs: float
    lambda_gb_seconds: float
    log_gb: float
    metrics: set

    @property
    def secrets_manager(self) -> float:
        return SECRET_MONTH + self.calls * SECRETS_MANAGER_CALL

    @property
    def running(self) -> float:
        started = self.runs * REQUEST + self.scheduled_runs * SCHEDULED_EVENT
        return started + self.lambda_gb_seconds * GB_SECOND + self.log_gb * LOG_GB

    @property
    def measuring(self) -> float:
        return METRIC_MONTH * sum("SecretId" in dimensions for _, dimensions in self.metrics)


def months() -> dict[str, Month]:
    found = {}
    for name, (lifetime, claim) in TOKENS.items():
        due = lifetime - min(MARGIN_SECONDS, lifetime // 3)
        # Time between two refreshes: a token is refreshed by the first scheduled run that finds it due.
        interval = -(-due // PERIOD_SECONDS) * PERIOD_SECONDS
        skip, refresh = Run(lifetime, interval - PERIOD_SECONDS, claim), Run(lifetime, interval, claim)
        # schedule.yaml has no rule for these events with CLAIM=never.
        moved = Run(lifetime, 0, claim, MOVED)
        for run, expected in [(skip, ("skipped", 0)), (refresh, ("refreshed", 1)), (moved, ("skipped", 0))]:
            assert (run.outcome, run.exchanges) == expected, run.result
        runs, refreshes = MONTH_SECONDS / PERIOD_SECONDS, MONTH_SECONDS / interval
        changes = refreshes if claim == "always" else 0
        # For each kind of run: how many, and the seconds that Lambda bills for one.
        kinds = [(skip, runs - refreshes, SKIP_SECONDS), (refresh, refreshes, REFRESH_SECONDS), (moved, changes, SKIP_SECONDS)]
        # A secret has room for about 100 versions, and all versions of the last 24 hours count.
        assert refresh.new_versions * 86_400 / interval < 100, f"{name}: no room for so many versions"
        found[name] = Month(
            refreshes=refreshes,
            calls=sum(run.calls * number for run, number, _ in kinds),
            versions=refreshes * refresh.new_versions,
            scheduled_runs=runs,
            runs=runs + changes,
            lambda_gb_seconds=sum(number * seconds for _, number, seconds in kinds) * MEMORY_GB,
            log_gb=sum(run.log_bytes * number for run, number, _ in kinds) / 1e9,
            metrics=skip.metrics | refresh.metrics | moved.metrics,
        )
    return found


def metrics_of_a_sweep() -> set:
    """Those of a stack with SecretPrefix, if no token fails."""
    skip, refresh = (Run(3600, age, "always", secret_id="myapp/prod/*") for age in (0, 3000))
    assert (skip.result["skipped"], refresh.result["refreshed"]) == (1, 1), (skip.result, refresh.result)
    return skip.metrics | refresh.metrics


def report(months: dict[str, Month], sweep: set, alarms: int) -> str:
    rows = [
        "| token lifetime | refreshes | calls to Secrets Manager | new versions | Secrets Manager | runs and log | metric | total |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, month in months.items():
        numbers = [f"{number:,.0f}" for number in (month.refreshes, month.calls, month.versions)]
        # Cents, rounded up.
        cents = [math.ceil(round(amount * 100, 3)) for amount in (month.secrets_manager, month.running, month.measuring)]
        dollars = [f"${amount / 100:.2f}" for amount in (*cents, sum(cents))]
        rows.append("| " + " | ".join([name, *numbers, *dollars]) + " |")
    one = {metric for month in months.values() for metric in month.metrics if metric[1] == {"FunctionName"}}
    by_secret = {metric for month in months.values() for metric in month.metrics} - one
    alarm, dashboard = ALARM_MONTH * alarms, DASHBOARD_MONTH
    text = (
        f"Each stack also costs ${alarm + dashboard + METRIC_MONTH * len(one):.2f}: {alarms} alarms ${alarm:.2f}, the dashboard "
        f"${dashboard:.2f} and {len(one)} metrics ${METRIC_MONTH * len(one):.2f}. With `SecretPrefix` it is "
        f"${alarm + dashboard + METRIC_MONTH * len(sweep):.2f}, because sweeps have {len(sweep)} metrics, whatever the number of tokens."
    )
    # The first stack of an account. All its parts are covered, except some metrics of a sweep.
    assert alarms <= FREE_ALARMS and FREE_DASHBOARDS >= 1 and len(one) + len(by_secret) <= FREE_METRICS
    for month in months.values():
        assert month.runs < FREE_REQUESTS and month.lambda_gb_seconds < FREE_GB_SECONDS
        assert month.scheduled_runs < FREE_SCHEDULED_EVENTS and month.log_gb < FREE_LOG_GB
    not_free = METRIC_MONTH * max(0, len(sweep) - FREE_METRICS)
    free = (
        "The free tier of an account covers all of this for one stack, so that its token costs only what Secrets Manager charges. "
        f"(With `SecretPrefix` the metrics beyond the free {FREE_METRICS} cost ${not_free:.2f}.) "
        f"A second stack has {2 * alarms - FREE_ALARMS} alarms that are not free."
    )
    return "\n".join([*rows, "", *textwrap.wrap(f"{text} {free}", 127)])


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    from template import Stack

    print(report(months(), metrics_of_a_sweep(), len(Stack().of_type("AWS::CloudWatch::Alarm"))))
