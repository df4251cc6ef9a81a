"""FLOPs and bytes of instructions written as the compiler writes them."""

import pytest

from vsumjax.tpu import hlo, roofline


def found(entry, others=""):
  """(FLOPs, bytes in HBM) of the last instruction of `entry`."""
  module = hlo.parse(f"HloModule m\n{others}\nENTRY %main () -> f32[] {{\n{entry}\n}}\n")
  instructions = module.computations["main"]
  shapes = {i.name: i.shape for i in instructions}
  last = instructions[-1]
  return roofline.flops(module, last, shapes), roofline.hbm_bytes(module, last, shapes)


def product(lhs, rhs, out, labels, window=""):
  window = f", window={{{window}}}" if window else ""
  return found(
    f"  %a = bf16[{lhs}]{{}} parameter(0)\n  %b = bf16[{rhs}]{{}} parameter(1)\n"
    f"  ROOT %c = bf16[{out}]{{}} convolution(%a, %b){window}, dim_labels={labels}"
  )[0]


@pytest.mark.parametrize(
  ("lhs", "rhs", "out", "labels", "window", "expected"),
  [
    ("64,32", "32,16", "64,16", "bf_io->bf", "", 2 * 64 * 32 * 16),
    # A batch of 8 products as an axis whose window meets one element a place.
    (
      "8,64,32", "8,32,16", "8,64,16", "0bf_0io->0bf", "size=8 stride=7 lhs_dilate=8",
      8 * 2 * 64 * 32 * 16,
    ),
    # Two axes summed over, one of them as a window without padding.
    ("64,4,32", "4,32,16", "64,16,1", "b0f_0io->bf0", "size=4", 4 * 2 * 64 * 32 * 16),
    # A batch of 4 of one side only: the padding of 3 on both sides is met and not counted.
    ("64,1,32", "4,32,16", "64,4,16", "b0f_0io->b0f", "size=4 pad=3_3 rhs_reversal=1",
     4 * 2 * 64 * 32 * 16),
    # An image of 8 x 8 in patches of 2 x 2, and a window of 3 whose ends lie over the edge.
    ("1,8,8,3", "2,2,3,16", "1,4,4,16", "b01f_01io->b01f", "size=2x2 stride=2x2",
     2 * 16 * 16 * 4 * 3),
    ("1,8,3", "3,3,16", "1,8,16", "b0f_0io->b0f", "size=3 pad=1_1", 2 * 16 * 3 * 22),
  ],
)  # fmt: skip
def test_products_count_where_they_meet_data(lhs, rhs, out, labels, window, expected):
  assert product(lhs, rhs, out, labels, window) == expected


def test_a_dot_counts_what_it_sums_over():
  entry = (
    "  %a = f32[8,64,32]{} parameter(0)\n  %b = f32[8,32,16]{} parameter(1)\n"
    "  ROOT %c = f32[8,64,16]{} dot(%a, %b), lhs_batch_dims={0}, lhs_contracting_dims={2}, "
    "rhs_batch_dims={0}, rhs_contracting_dims={1}"
  )
  assert found(entry)[0] == 2 * 8 * 64 * 32 * 16


def test_products_of_narrow_integers_count_half():
  """For they run at twice the peak."""
  entry = (
    "  %a = s8[64,32]{} parameter(0)\n  %b = s8[32,16]{} parameter(1)\n"
    "  ROOT %c = s32[64,16]{} convolution(%a, %b), dim_labels=bf_io->bf"
  )
  assert found(entry)[0] == 64 * 32 * 16


def test_bytes_are_those_in_hbm():
  entry = (
    "  %a = f32[1000]{0:T(1024)S(1)} parameter(0)\n  %b = f32[1000]{0:T(1024)} parameter(1)\n"
    "  ROOT %c = bf16[1000]{0:T(1024)} add(%a, %b)"
  )
  assert found(entry) == (0.0, 4000 + 2000)


STACK = "f32[26,1000]{1,0:T(8,128)}"
ROW = "f32[1,1000]{1,0:T(1,128)}"


def test_a_row_read_from_a_stack_counts_alone():
  others = (
    f"%f (a: {STACK}, n: s32[]) -> {ROW} {{\n  %a = {STACK} parameter(0)\n"
    f"  %n = s32[] parameter(1)\n  %s = {ROW} dynamic-slice(%a, %n, %n)\n"
    f"  ROOT %e = {ROW} exponential(%s)\n}}"
  )
  entry = (
    f"  %x = {STACK} parameter(0)\n  %i = s32[]{{:S(6)}} parameter(1)\n"
    f"  ROOT %y = {ROW} fusion(%x, %i), kind=kLoop, calls=%f"
  )
  assert found(entry, others)[1] == 4000 + 4000


def test_a_row_written_into_a_stack_in_place_counts_alone():
  others = (
    f"%f (a: {STACK}, r: {ROW}, n: s32[]) -> {STACK} {{\n  %a = {STACK} parameter(0)\n"
    f"  %r = {ROW} parameter(1)\n  %n = s32[] parameter(2)\n"
    f"  ROOT %u = {STACK} dynamic-update-slice(%a, %r, %n, %n)\n}}"
  )
  entry = (
    f"  %x = {STACK} parameter(0)\n  %r = {ROW} parameter(1)\n"
    f"  %i = s32[]{{:S(6)}} parameter(2)\n"
    f"  ROOT %y = {STACK} fusion(%x, %r, %i), kind=kLoop, calls=%f"
  )
  assert found(entry, others)[1] == 4000 + 4000
  bare = f"  %x = {STACK} parameter(0)\n  %r = {ROW} parameter(1)\n  %i = s32[] parameter(2)\n"
  bare += f"  ROOT %y = {STACK} dynamic-update-slice(%x, %r, %i, %i)"
  assert found(bare)[1] == 4000 + 4000


def test_a_gather_counts_the_rows_that_it_takes():
  table = "f32[257152,144]{1,0:T(8,128)}"
  entry = (
    f"  %t = {table} parameter(0)\n  %i = s32[5,1]{{1,0:T(8,128)S(1)}} parameter(1)\n"
    f"  ROOT %r = f32[5,144]{{1,0:T(8,128)}} gather(%t, %i), slice_sizes={{1,144}}"
  )
  assert found(entry)[1] == 2 * 5 * 144 * 4
