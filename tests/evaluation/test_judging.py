"""Judging beside the engine: order, bounds, and what is kept when something goes wrong."""

import threading

import pytest

from autodeco.evaluation.judging import Judge
from autodeco.rollouts import Sample
from autodeco.tasks import Example
from tests.rollouts.letters import Letters


class Slow(Letters):
    """The verifier waits at the completion "0" until it is told to go on."""

    concurrent = True

    def __init__(self):
        self.threads = set()
        self.go_on = threading.Event()

    def verify(self, example, completion):
        self.threads.add(threading.get_ident())
        assert completion != "0" or self.go_on.wait(60)
        return completion == "0"


EXAMPLES = [Example("p", [], "a")]


def sample(number):
    return Sample(0, number, [], [1], str(number), "stop")


def test_batches_come_in_order_whoever_is_ready_first():
    taken, task = [], Slow()
    with Judge(task, EXAMPLES, taken.append, most_waiting=100) as judge:
        for number in range(6):
            judge.put([sample(number)])
        assert not taken  # the first one holds the others back, and does not stop the engine
        task.go_on.set()
    assert [batch[0][0].sample_index for batch in taken] == list(range(6))
    assert [batch[0][1].correct for batch in taken] == [True, False, False, False, False, False]
    assert threading.get_ident() not in task.threads


def test_no_more_wait_than_allowed():
    taken = []
    with Judge(Slow(), EXAMPLES, taken.append, most_waiting=2) as judge:
        judge.put([sample(1), sample(2)])
        judge.put([sample(3)])
        assert len(taken) >= 1


def test_after_a_stop_what_is_judged_is_kept():
    taken, task = [], Slow()

    def stop(judged):
        taken.append(judged)
        if len(taken) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Judge(task, EXAMPLES, stop, most_waiting=1) as judge:  # noqa: PT012
        task.go_on.set()
        judge.put([sample(0)])
        judge.put([sample(1), sample(2)])  # waits for the first, which stops the run
    assert [batch[0][0].sample_index for batch in taken][:1] == [0]


def test_a_task_that_does_not_say_so_is_judged_in_one_thread():
    task, taken = Slow(), []
    task.concurrent = False
    with Judge(task, EXAMPLES, taken.append, most_waiting=100) as judge:
        for number in range(1, 20):
            judge.put([sample(number)])
    assert len(task.threads) == 1
