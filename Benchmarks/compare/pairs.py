"""Two things measured in turn, and what can be said of their ratio.

    import pairs

    print(pairs.machine_line())
    print(pairs.header())
    result = pairs.measure(a, b, 15)             # a and b are called in turn and return numbers
    print(pairs.row("raw 4 KiB randread", result, bound=0.97))
    print(pairs.row("CPU per byte", result, bound=1.25, at_most=True))

Whatever makes the machine faster or slower for a while meets both halves of a pair, so each pair gives a ratio a / b of its
own. Which half comes first alternates. The middle of the ratios is reported with an interval that holds the true median with at
least 95 % probability whatever the ratios' distribution is: the order statistics that a binomial with p = 1/2 says (David
and Nagaraja, Order Statistics, 7.1). That needs 6 pairs; we take 15 or more, for which it runs from the fourth smallest to the
fourth largest.

`bound` is met ("yes") when the whole interval is on its right side, "by median" when only the median is, otherwise "no".
"""
import math
import os
import platform
import subprocess
import time

CONFIDENCE = 0.95


class Result:
    """`ratios` in the order they were measured, `a` and `b` the numbers behind them, `median`, `low`, `high`."""

    def __init__(self, a, b):
        self.a, self.b = list(a), list(b)
        self.ratios = [x / y for x, y in zip(self.a, self.b)]
        self.median = median(self.ratios)
        self.low, self.high = interval(self.ratios)

    def meets(self, bound, at_most=False):
        """"yes", "by median" or "no"."""
        def right(value):
            return value <= bound if at_most else value >= bound
        if right(self.low) and right(self.high):
            return "yes"
        return "by median" if right(self.median) else "no"


def measure(a, b, n=15, progress=None):
    """Calls a() and b() n times each, interleaved, which of them first by turns."""
    found_a, found_b = [], []
    for turn in range(n):
        if turn % 2 == 0:
            found_a.append(a())
            found_b.append(b())
        else:
            found_b.append(b())
            found_a.append(a())
        if progress:
            progress(turn + 1)
    return Result(found_a, found_b)


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def interval(values, confidence=CONFIDENCE):
    """The narrowest symmetric pair of order statistics that holds the median with that probability or more."""
    ordered, n = sorted(values), len(values)
    outside, rank = 0.0, 0
    # Leaving out the `rank` smallest misses the median with the probability that at most that many of n lie below it.
    while rank < (n + 1) // 2:
        outside += math.comb(n, rank) / 2.0 ** n
        if 2 * outside > 1 - confidence:
            break
        rank += 1
    if rank == 0:
        raise ValueError(f"{n} values are too few for an interval of {confidence:.0%}")
    return ordered[rank - 1], ordered[n - rank]


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def commit():
    here = os.path.dirname(os.path.abspath(__file__))
    words = ["git", "-C", here, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() or "unknown"


def machine_line():
    """Processor, cores, load, kernel, day and commit: without them a figure says nothing."""
    return (f"{processor()}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), {platform.system()} {platform.release()}, "
            f"{time.strftime('%-d %B %Y')}, commit {commit()}")


def header():
    return "| work | ratio | 95 % interval | bound | met |\n|---|---|---|---|---|"


def row(name, result, bound=None, at_most=False):
    said = "" if bound is None else f"{'<=' if at_most else '>='} {bound:g}"
    met = "" if bound is None else result.meets(bound, at_most)
    return f"| {name} | {result.median:.3f} | {result.low:.3f} to {result.high:.3f} | {said} | {met} |"
