import pytest

from vsumjax.tpu import report


@pytest.mark.parametrize(
  ("text", "sizes"),
  [
    ("RESOURCE_EXHAUSTED: ... Used 20.50G of 15.75G hbm. Exceeded", (20.5 * 2**30, 15.75 * 2**30)),
    ("Program's size (512.00M) exceeds available HBM (256.00M)", (2**29, 2**28)),
  ],
)
def test_what_a_program_needs_is_read_from_the_error(text, sizes):
  assert report.exhausted(text) == sizes


def test_an_error_without_sizes_has_none():
  assert report.exhausted("RESOURCE_EXHAUSTED: out of memory") is None
