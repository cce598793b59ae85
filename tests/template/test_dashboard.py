"""docs/dashboard.svg is the picture that dashboard.py draws from the template."""

import unittest

import dashboard
import pages


class Dashboard(unittest.TestCase):
    def test_the_picture_on_the_page_is_drawn_from_the_template(self):
        self.assertEqual(dashboard.PICTURE.read_text(), dashboard.drawn(), "run tests/template/dashboard.py")
        self.assertIn(f"]({dashboard.PICTURE.name})", pages.section("Dashboard"))

    def test_every_widget_every_alarm_and_every_failing_token_is_in_the_picture(self):
        picture = dashboard.Picture(dashboard.Stack())
        titles = [widget["properties"]["title"] for widget in picture.body["widgets"]]
        failing = {line["secretId"] for line in picture.failures}
        self.assertEqual(len(failing), 2)
        for word in [*titles, *picture.stack.of_type("AWS::CloudWatch::Alarm"), *failing]:
            self.assertIn(f">{word}<", picture.svg)
