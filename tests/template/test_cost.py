"""The README's table of costs is the one that is computed from counted calls."""

import unittest

import cost
import readme
from template import Stack, source


class Cost(unittest.TestCase):
    def test_the_readme_shows_what_is_computed_from_counted_calls_and_published_prices(self):
        months = cost.months()
        alarms = len(Stack().of_type("AWS::CloudWatch::Alarm"))
        self.assertIn(cost.report(months, alarms), readme.section("What it costs"))
        # A skip is one call, a refresh four: the table of paths.
        self.assertAlmostEqual(months["24 h"].calls, 8640 + 3 * months["24 h"].refreshes)

    def test_it_is_computed_for_the_schedule_the_margin_and_the_memory_of_the_template(self):
        default = {name: each.get("Default") for name, each in source()["Parameters"].items()}
        self.assertEqual(cost.PERIOD_SECONDS, default["SchedulePeriodSeconds"])
        self.assertEqual(cost.MARGIN_SECONDS, default["RefreshMarginSeconds"])
        function = Stack().resources["Function"]["Properties"]
        self.assertEqual((cost.MEMORY_GB * 1024, function["Architectures"]), (function["MemorySize"], ["arm64"]))
