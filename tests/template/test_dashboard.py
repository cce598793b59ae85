"""The picture in docs/ is what the script draws from the template as it is."""

import unittest

import dashboard
import readme


class Dashboard(unittest.TestCase):
    def test_the_picture_that_the_readme_shows_is_drawn_from_the_template(self):
        self.assertEqual(dashboard.PICTURE.read_text(), dashboard.drawn(), "run tests/template/dashboard.py")
        self.assertIn(f"]({dashboard.PICTURE.relative_to(dashboard.ROOT)})", readme.section("Watching"))

    def test_every_widget_and_every_alarm_is_in_the_picture(self):
        picture = dashboard.Picture(dashboard.Stack())
        titles = [widget["properties"]["title"] for widget in picture.body["widgets"]]
        for word in [*titles, *picture.stack.of_type("AWS::CloudWatch::Alarm"), *(secret for secret, _, _ in dashboard.TOKENS)]:
            self.assertIn(f">{word}<", picture.svg)
