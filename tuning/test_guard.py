"""The guard itself: `python3 -m unittest discover tuning`."""

import unittest

from guard import compare, least

BEFORE = {"an upload": {"instructions": 1_000, "system_calls": {"total": 100, "writev": 60, "futex": 40}}}


def now(instructions=1_000, total=100, **calls):
    return {"an upload": {"instructions": instructions, "system_calls": {"total": total, "writev": 60, "futex": 40, **calls}}}


class Guard(unittest.TestCase):
    def test_what_is_within_the_tolerance_is_let_through(self):
        self.assertEqual(compare(BEFORE, now(instructions=1_049, total=114)), [])

    def test_dearer_instructions_are_told(self):
        [said] = compare(BEFORE, now(instructions=1_051))
        self.assertIn("instructions per GiB 1,000 -> 1,051", said)

    def test_dearer_system_calls_are_told_with_those_that_grew(self):
        [said] = compare(BEFORE, now(total=140, mincore=40))
        self.assertIn("100 -> 140", said)
        self.assertIn("mincore +40", said)

    def test_the_cheapest_of_several_runs_counts(self):
        self.assertEqual(least([{"total": 3, "a": 3}, {"total": 2, "a": 2}]), {"total": 8, "a": 8})


if __name__ == "__main__":
    unittest.main()
