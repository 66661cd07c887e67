"""The measuring measures what it says: `python3 -m unittest discover tuning/compare`."""

import os
import tempfile
import unittest
from pathlib import Path

from measure import Pinned, adopt_orphans, cached_bytes, measure

BURN = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def shell(text, timeout_seconds=60):
    return measure(["sh", "-c", text], ENVIRONMENT, timeout_seconds)


class Measure(unittest.TestCase):
    def setUp(self):
        adopt_orphans()

    def test_the_cpu_of_children_is_counted(self):
        alone, beside = shell(BURN), shell(f"sh -c '{BURN}' & sh -c '{BURN}' & wait")
        self.assertGreater(alone.cpu, 0.02)
        self.assertGreater(beside.cpu, 1.5 * alone.cpu)

    def test_a_child_that_is_left_behind_is_noticed_and_ended(self):
        self.assertTrue(shell("sleep 1000 & exit 0").left_behind)
        self.assertFalse(shell("sleep 0 & wait").left_behind)

    def test_a_run_that_hangs_is_ended_and_says_so(self):
        run = shell("exec sleep 1000", timeout_seconds=0.3)
        self.assertNotEqual(run.exit, 0)
        self.assertIn("took longer", run.stderr)

    def test_a_program_that_is_not_there_is_a_failed_run(self):
        run = measure(["/nonexistent"], ENVIRONMENT, 60)
        self.assertNotEqual(run.exit, 0)
        self.assertIn("cannot be started", run.stderr)

    def test_the_peak_of_anonymous_memory_is_seen(self):
        run = measure(["python3", "-c", "import time; b = bytearray(64 << 20); time.sleep(0.3)"], ENVIRONMENT, 60)
        self.assertGreater(run.rss_anon_kib, 64 << 10)

    def test_a_pinned_file_stays_in_the_page_cache(self):
        with tempfile.NamedTemporaryFile(dir=Path(__file__).parent) as file:
            file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())
            with Pinned(Path(file.name)) as pinned:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                if pinned.locked:
                    self.assertEqual(cached_bytes(Path(file.name)), 1 << 20)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self.assertEqual(cached_bytes(Path(file.name)), 0)


if __name__ == "__main__":
    unittest.main()
