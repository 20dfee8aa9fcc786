"""Processes that share a run: results in order, tasks drawn as they are needed."""

import os

from dcfnet_np.support.workers import map_in_order


def square(number):
    return number * number, os.getpid()


def test_results_come_in_order_from_other_processes():
    results = list(map_in_order(square, range(40), 2))
    assert [value for value, _ in results] == [number * number for number in range(40)]
    assert os.getpid() not in {process for _, process in results}
    assert list(map_in_order(square, range(3))) == [
        (number * number, os.getpid()) for number in range(3)
    ]


def test_tasks_are_drawn_no_faster_than_results_are_taken():
    for workers, ahead in ((1, 1), (2, 5)):
        drawn = []

        def tasks(drawn=drawn):
            for number in range(40):
                drawn.append(number)
                yield number

        results = map_in_order(square, tasks(), workers)
        for taken in range(40):
            next(results)
            assert len(drawn) <= taken + ahead
