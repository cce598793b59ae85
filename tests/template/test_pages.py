"""The pages themselves: titles, links, and commands that are on two pages."""

import re
import unittest

import pages

PAGE = """# A page
text
## One
```sh
# not a heading
```
### Two
more
"""


def anchor(title: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


class Pages(unittest.TestCase):
    def test_a_section_ends_at_the_next_heading_and_a_comment_in_a_code_block_is_not_one(self):
        expected = [("A page", "text\n"), ("One", "```sh\n# not a heading\n```\n"), ("Two", "more\n")]
        self.assertEqual(pages.parse(PAGE), expected)

    def test_every_title_is_unique(self):
        repeated = {title: [page for page, _ in found] for title, found in pages.sections().items() if len(found) > 1}
        self.assertEqual(repeated, {})

    def test_the_commands_of_the_readme_are_those_of_the_tested_pages(self):
        for program, title in [
            ("cargo lambda build", "Deploy"),
            ("aws s3", "Deploy"),
            ("aws cloudformation", "Deploy"),
            ("aws lambda invoke", "Invoking by hand"),
        ]:
            for command in pages.commands("Set it up", program):
                self.assertIn(command, pages.commands(title, program))

    def test_every_link_to_a_file_or_a_section_leads_to_one(self):
        for file in pages.files():
            text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.M | re.S)
            for target in re.findall(r"\]\(([^)\s]+)\)", text):
                if "://" in target or target.startswith("mailto:"):
                    continue
                path, _, fragment = target.partition("#")
                linked = (file.parent / path).resolve() if path else file
                with self.subTest(page=file.name, link=target):
                    self.assertTrue(linked.exists())
                    if fragment:
                        self.assertIn(fragment, [anchor(title) for title, _ in pages.parse(linked.read_text())])
