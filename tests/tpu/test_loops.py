"""Trip counts of loops written as the compiler writes them."""

import pytest

from vsumjax.tpu import hlo, loops

S32 = "s32[]{:T(128)}"
STATE = f"({S32}, {S32}, f32[8]{{0:T(128)}})"


def trips(*, start="constant(0)", following, condition, others=""):
  """Of a loop over (counter, something fixed, values); `%c` is the counter, `%k` what is fixed."""
  read = (
    f"  %x = {STATE} parameter(0)\n"
    f"  %c = {S32} get-tuple-element(%x), index=0\n"
    f"  %k = {S32} get-tuple-element(%x), index=1\n"
  )
  text = f"""HloModule program, is_scheduled=true
{others}
%body (x: {STATE}) -> {STATE} {{
{read}  %v = f32[8]{{0:T(128)}} get-tuple-element(%x), index=2
{following}
  ROOT %r = {STATE} tuple(%next, %k, %v)
}}
%condition (x: {STATE}) -> pred[] {{
{read}{condition}
}}
ENTRY %main (p: f32[8]) -> {STATE} {{
  %p = f32[8]{{0:T(128)}} parameter(0)
  %first = {S32} {start}
  %copied = {S32} copy(%first)
  %fixed = {S32} constant(12)
  %t = {STATE} tuple(%copied, %fixed, %p)
  ROOT %l = {STATE} while(%t), condition=%condition, body=%body
}}
"""
  module = hlo.parse(text)
  outside = module.computations[module.entry]
  return loops.trip_count(module.computations, outside, outside[-1])


def count(**how):
  found = trips(**how)
  assert found is None or not found.at_most
  return found.count if found else None


def add(step):
  return f"  %s = {S32} constant({step})\n  %next = {S32} add(%c, %s)"


def compare(direction, limit):
  return (
    f"  %n = {S32} constant({limit})\n"
    f"  ROOT %q = pred[]{{:T(512)}} compare(%c, %n), direction={direction}"
  )


@pytest.mark.parametrize(
  ("first", "step", "direction", "limit", "expected"),
  [
    (0, 1, "LT", 26, 26),
    (0, 2, "LT", 8, 4),  # a loop over parts of a product, unrolled by two
    (0, 2, "LT", 7, 4),
    (1, 1, "LT", 8, 7),
    (0, 1, "LE", 8, 9),
    (25, -1, "GE", 0, 26),
    (25, -1, "GT", 0, 25),
    (0, 3, "NE", 9, 3),
    (5, 1, "LT", 5, 0),
    (0, -1, "LT", 5, None),  # never ends
    (0, 2, "NE", 5, None),
    (0, 0, "LT", 5, None),
  ],
)
def test_trips_follow_from_start_step_and_bound(first, step, direction, limit, expected):
  start = f"constant({first})"
  found = count(start=start, following=add(step), condition=compare(direction, limit))
  assert found == expected


def test_a_bound_may_be_carried_along():
  condition = "  ROOT %q = pred[]{:T(512)} compare(%k, %c), direction=GT"
  assert count(following=add(1), condition=condition) == 12


def test_the_counter_may_have_something_added_when_it_is_compared():
  condition = (
    f"  %m = {S32} constant(1)\n  %n = {S32} constant(8)\n  %d = {S32} add(%c, %m)\n"
    "  ROOT %q = pred[]{:T(512)} compare(%d, %n), direction=LT"
  )
  assert count(following=add(1), condition=condition) == 7


def test_the_step_and_the_comparison_may_be_fused():
  others = f"""%adds (a: {S32}) -> {S32} {{
  %a = {S32} parameter(0)
  %two = {S32} constant(2)
  ROOT %sum = {S32} add(%a, %two)
}}
%compares (a: {S32}, b: {S32}) -> pred[] {{
  %a = {S32} parameter(0)
  %b = {S32} parameter(1)
  ROOT %less = pred[]{{:T(512)}} compare(%a, %b), direction=LT
}}
"""
  following = f"  %next = {S32} fusion(%c), kind=kLoop, calls=%adds"
  condition = "  ROOT %q = pred[]{:T(512)} fusion(%c, %k), kind=kLoop, calls=%compares"
  assert count(following=following, condition=condition, others=others) == 6


def test_what_depends_on_data_is_not_known():
  condition = "  ROOT %q = pred[]{:T(512)} custom-call(%x)"
  assert trips(following=add(1), condition=condition) is None
  assert trips(start="custom-call()", following=add(1), condition=compare("LT", 8)) is None


def test_a_loop_that_may_end_early_runs_at_most_as_often_as_its_counter_lets_it():
  """As one that generates text until every row has ended."""
  condition = (
    f"  %n = {S32} constant(64)\n  %d = pred[]{{:T(512)}} custom-call(%x)\n"
    "  %q = pred[]{:T(512)} compare(%c, %n), direction=LT\n"
    "  ROOT %both = pred[]{:T(512)} and(%q, %d)"
  )
  found = trips(start="constant(1)", following=add(1), condition=condition)
  assert found == loops.Trips(63, at_most=True)
