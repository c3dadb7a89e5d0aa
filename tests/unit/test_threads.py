"""Thread counts: the fastest of those timed is chosen, and a change of circumstances is noticed."""

import time

import torch

from engram.training import threads
from engram.training.threads import StepTimeWatch


def test_every_candidate_is_timed_at_its_own_thread_count_and_the_old_count_is_back():
    seen = []

    def step():
        seen.append(torch.get_num_threads())
        time.sleep(0.003 if torch.get_num_threads() == 1 else 0.001)

    before = torch.get_num_threads()
    timed = threads.calibrate(step, 2, rounds=3, least=0.0)
    assert torch.get_num_threads() == before
    assert seen == [1, 1, 2, 2] + [1, 2] * 3  # two steps each outside the measurement
    assert timed[1] > timed[2]


def test_the_budget_ends_the_rounds():
    calls = []
    threads.calibrate(lambda: calls.append(1), 1, rounds=100, budget=0.0)
    assert len(calls) == 2 + threads.MOST_STEPS


def test_short_steps_are_timed_several_at_a_time():
    calls = []
    threads.calibrate(lambda: (calls.append(1), time.sleep(0.01)), 1, rounds=2, least=0.045)
    assert len(calls) == 2 + 2 * 4


def test_candidates_are_one_half_and_all():
    assert threads.candidates(1) == [1]
    assert threads.candidates(2) == [1, 2]
    assert threads.candidates(8) == [1, 4, 8]


def test_a_jump_is_told_once_a_pause():
    watch = StepTimeWatch(window=3, jump=2.0, pause=10.0)
    times = [1.0] * 5 + [2.5] * 12
    told = [now for now, seconds in enumerate(times) if watch.jumped(seconds, float(now))]
    assert told == [6, 16]  # two of three are slow at 6; silent for ten


def test_noise_and_a_single_slow_step_are_no_jump():
    watch = StepTimeWatch(window=5, jump=2.0, pause=0.0)
    times = [1.0, 1.2, 0.9, 9.0, 1.1, 1.3, 0.8, 9.0, 1.0] * 4
    assert not any(watch.jumped(seconds, now) for now, seconds in enumerate(times))
