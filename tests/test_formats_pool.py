"""Work in processes of its own, some of which end."""

from __future__ import annotations

import os

import pytest

from mclip.formats.pool import run_all


def halved(job: int) -> float:
    """Half of it; 13 ends the process, and a negative number is an error."""
    if job == 13:
        os._exit(1)
    if job < 0:
        raise ValueError(f"{job} is negative")
    return job / 2


def test_each_job_has_its_result_and_one_that_ends_its_process_has_none() -> None:
    assert dict(run_all(halved, range(9, 16), 2)) == {job: None if job == 13 else job / 2 for job in range(9, 16)}


def test_what_work_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="-3 is negative"):
        list(run_all(halved, [2, -3], 1))


def test_without_jobs_there_are_no_processes() -> None:
    assert list(run_all(halved, [], 2)) == []
