"""docs/operations.md shows the costs that cost.py computes from counted calls."""

import unittest

import cost
import pages
from template import Stack, source


class Cost(unittest.TestCase):
    def test_the_page_shows_the_costs_computed_from_counted_calls_and_published_prices(self):
        months = cost.months()
        alarms = len(Stack().of_type("AWS::CloudWatch::Alarm"))
        self.assertIn(cost.report(months, cost.metrics_of_a_sweep(), alarms), pages.section("What it costs"))
        # A scheduled run makes one call, a refresh four more, and the run after it one.
        self.assertAlmostEqual(months["24 h"].calls, 8640 + 5 * months["24 h"].refreshes)

    def test_below_a_prefix_no_token_has_a_metric_of_its_own(self):
        # Such a metric costs almost as much as a secret. Secrets Manager's event comes after each refresh.
        after_a_refresh = cost.Run(3600, 0, "always", cost.MOVED, "myapp/prod/*")
        self.assertEqual([each for each in cost.metrics_of_a_sweep() | after_a_refresh.metrics if "SecretId" in each[1]], [])

    def test_the_costs_are_for_the_schedule_the_margin_and_the_memory_of_the_template(self):
        default = {name: each.get("Default") for name, each in source()["Parameters"].items()}
        self.assertEqual(cost.PERIOD_SECONDS, default["SchedulePeriodSeconds"])
        self.assertEqual(cost.MARGIN_SECONDS, default["RefreshMarginSeconds"])
        function = Stack().resources["Function"]["Properties"]
        self.assertEqual((cost.MEMORY_GB * 1024, function["Architectures"]), (function["MemorySize"], ["arm64"]))
