"""Slots: scratch by who is at work."""

import numpy as np
from tinydl_kernels.cpu import slots, threads
from tinydl_kernels.cpu.compiler import parallel

TASKS, SIZE = 64, 1 << 12


@parallel
def _work(start, stop, scratch, free, sound, used):
    """Each task writes its number all over its scratch, again and again, and looks whether it stays."""
    for task in range(start, stop):
        slot = slots.take(free, task)
        used[task], sound[task] = slot, True
        for _ in range(20):
            for i in range(scratch.shape[1]):
                scratch[slot, i] = task
            for i in range(scratch.shape[1]):
                sound[task] &= scratch[slot, i] == task
        slots.give_back(free, slot)


def test_no_two_tasks_at_work_have_the_same_slot():
    scratch, sound, used = np.empty((slots.FEW, SIZE)), np.zeros(TASKS, bool), np.full(TASKS, -1)
    outer = threads.get_num_threads()
    try:
        threads.set_num_threads(4)
        free = slots.free(TASKS, scratch)
        _work(TASKS, 1, scratch, free, sound, used)
    finally:
        threads.set_num_threads(outer)
    assert free.size == slots.rows(TASKS) == slots.FEW
    assert not free.any()  # all have been given back
    assert sound.all()
    assert used.min() >= 0
    assert used.max() < 4  # as many as there are threads at most


def test_with_little_scratch_each_task_has_its_own():
    few = slots.FEW
    scratch, sound, used = np.empty((few, 4)), np.zeros(few, bool), np.full(few, -1)
    free = slots.free(few, scratch)
    assert free.size == 0
    _work(few, 1, scratch, free, sound, used)
    assert sound.all()
    np.testing.assert_array_equal(used, np.arange(few))


def test_more_tasks_than_rows_choose_among_these_however_little_they_are():
    assert slots.free(TASKS, np.empty((slots.rows(TASKS), 4))).size == slots.rows(TASKS) < TASKS
