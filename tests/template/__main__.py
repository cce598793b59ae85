"""Checks schedule.yaml and what the README says of it: python tests/template [-k PATTERN]   (needs what tests/peers/run.py starts)"""

import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
folder = Path(__file__).parent
sys.path.insert(0, str(folder))

loader = unittest.TestLoader()
if sys.argv[1:2] == ["-k"]:
    loader.testNamePatterns = [f"*{pattern}*" for pattern in sys.argv[2:]]
started = time.monotonic()
result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(loader.discover(str(folder)))
failed = len(result.failures) + len(result.errors)
# An error in what several tests share (setUpClass) is none of the tests run.
passed = max(0, result.testsRun - failed - len(result.skipped))
seconds = time.monotonic() - started
# The line that tests/run adds up.
print(
    f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {failed} failed; {len(result.skipped)} ignored; in {seconds:.1f} s"
)
sys.exit(bool(failed or not result.testsRun))
