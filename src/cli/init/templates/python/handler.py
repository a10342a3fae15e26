"""What this agent can do."""

import math
from statistics import fmean, median, pstdev

from switchyard import NonRetryableError


def handle(parameters):
    """``{numbers: [...]}`` -> how many they are, their sum and mean, the one in the middle, the ends, and the standard deviation."""
    numbers = parameters.get("numbers")
    if not isinstance(numbers, list) or not numbers or not all(map(is_number, numbers)):
        # The next attempt would find the same: this fails the task for good. Any other error would have it tried again.
        raise NonRetryableError("numbers must be a list of numbers that is not empty")
    return {
        "count": len(numbers),
        "sum": math.fsum(numbers),
        "mean": fmean(numbers),
        "median": median(numbers),
        "least": min(numbers),
        "most": max(numbers),
        "deviation": pstdev(numbers),
    }


def is_number(value):
    # True is an int in Python, and no number to anyone else.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
