"""Rules that were wrong when published: refused, or graded where rounding alone is wrong; mended, they pass."""

import jax
import pytest
from faults.published import LEFT_OUT, PUBLISHED

from jaxnn import verify

ROWS = {*range(1, 65)} - {5, 13, 14, 24, 33, 36, 42, 45, 56, 57}  # of the list of published bugs


@pytest.fixture(autouse=True)
def as_users_have_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("published", PUBLISHED)
def test_published_bug(published, record_property):
    bug = PUBLISHED[published]
    wrong, right = bug.report_of(bug.wrong), bug.report_of(bug.right)
    assert right.verdict == verify.PASS, str(right)
    if bug.dtype:
        assert wrong.verdict == verify.PASS, str(wrong)
        assert digits(wrong, bug.dtype) < 1 < 12 < digits(right, bug.dtype)
        return
    assert wrong.verdict == verify.FAIL, str(wrong)
    kinds = [cause.kind for cause in wrong.causes if cause.is_known]
    first, listed = (any(kind in bug.kinds.split() for kind in some) for some in (kinds[:1], kinds))
    record_property("diagnosis", ("published", 1, int(first), int(listed)))
    assert first or not kinds, str(wrong)


def digits(report, dtype):
    """That are correct in the worst array."""
    return min(grade.hand_digits for grade in report.precision if grade.dtype == dtype)


def test_every_row_is_tried_or_left_out():
    assert {bug.issue.row for bug in PUBLISHED.values()} | LEFT_OUT.keys() == ROWS
    assert not {bug.issue.row for bug in PUBLISHED.values()} & LEFT_OUT.keys()
    assert len(PUBLISHED) == 63
