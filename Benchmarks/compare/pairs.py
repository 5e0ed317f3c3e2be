"""Pairs of interleaved runs and the statistics of their ratios."""
import random


def interleave(count, ours, theirs):
    """Runs both `count` times, in an order that changes from pair to pair, and yields their results."""
    for number in range(count):
        if number % 2 == 0:
            a = ours()
            b = theirs()
        else:
            b = theirs()
            a = ours()
        yield a, b


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def interval(values, share=0.95, rounds=2000):
    """Where the median lies with that confidence, by the bootstrap; the same values give the same answer."""
    draw = random.Random(1)
    medians = sorted(median([draw.choice(values) for _ in values]) for _ in range(rounds))
    edge = int(rounds * (1 - share) / 2)
    return medians[edge], medians[rounds - 1 - edge]


def summary(ratios):
    """The median ratio, and how to print it with its interval."""
    low, high = interval(ratios)
    middle = median(ratios)
    return middle, f"{middle:.3f} ({low:.3f}-{high:.3f})"
