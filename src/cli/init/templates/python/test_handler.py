import math
import unittest

import agent  # it also finds the SDK
from handler import handle
from switchyard import NonRetryableError


class Handle(unittest.TestCase):
    def test_numbers_are_described(self):
        self.assertEqual(
            handle({"numbers": [9, 2, 4, 4, 5, 7, 4, 5]}),
            {"count": 8, "sum": 40, "mean": 5, "median": 4.5, "least": 2, "most": 9, "deviation": 2},
        )
        self.assertEqual(handle({"numbers": [10, 9, 100]})["median"], 10)

    def test_what_are_no_numbers_fails_for_good(self):
        for numbers in (None, [], "many", [1, "2"], [True], [math.nan]):
            with self.subTest(numbers=numbers), self.assertRaises(NonRetryableError):
                handle({"numbers": numbers})

    def test_the_agent_can_be_made(self):
        self.assertIsNone(agent.agent.port, "it must not start when it is imported")


if __name__ == "__main__":
    unittest.main()
