"""The queue of due names gives what a heap of (due time, name) would give."""

from heapq import heappop, heappush

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sz_protocol.machines.due_queue import DueQueue

PUSHES = st.lists(st.none() | st.tuples(st.integers(0, 3), st.sampled_from("abcd")), max_size=40)


@given(PUSHES)
def test_due_names_come_in_the_order_of_a_heap(steps: list[tuple[int, str] | None]) -> None:
    queue, heap = DueQueue(), list[tuple[int, str]]()
    for step in steps:
        if step is not None:
            queue.push(*step)
            heappush(heap, step)
        elif heap:
            assert queue.first() == heap[0]
            assert queue.pop() == heappop(heap)
        assert bool(queue) == bool(heap)
    while heap:
        assert queue.first() == heap[0]
        assert queue.pop() == heappop(heap)
    assert (queue.instants, queue.names) == ([], {})


def test_an_empty_queue_has_no_first_name() -> None:
    with pytest.raises(IndexError):
        DueQueue().first()
    with pytest.raises(IndexError):
        DueQueue().pop()
