"""The simulation on programs written by hand for 16 chips of v5e, whose clock is 1.5 GHz."""

import numpy as np
import pytest

from vsumjax.tpu import hlo, topologies
from vsumjax.tpu.links import Links
from vsumjax.tpu.predict import predict

V5E = topologies.parse("v5e:4x4")
COORDS = [(0, x, y) for y in range(4) for x in range(4)]
# 96 MB are gathered in a millisecond over one link of each axis: 15 / 16 of them come in at 9e10.
GATHERED = "bf16[16,3000000]{1,0:T(8,128)(2,1)}"
PART = "bf16[1,3000000]{1,0:T(8,128)(2,1)}"
ALL = "replica_groups={{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}}"
GATHER_MS = 96e6 * 15 / 16 / 9e10 * 1e3 + 6e-3  # and six hops
ASYNC = f"(({PART}), {GATHERED})"


def run(*lines, others=""):
  text = "\n".join(
    [
      "HloModule program, is_scheduled=true",
      others,
      f"ENTRY %main (p: {PART}) -> {PART} {{",
      f"  %p = {PART} parameter(0)",
      *(f"  {line}" for line in lines),
      "}",
    ]
  )
  return predict(hlo.parse(text), Links(V5E, COORDS))


def work(name, ms, after="%p"):
  """An instruction that the compiler estimates."""
  cycles = round(ms * 1.5e6)
  return (
    f'{name} = {PART} fusion({after}), calls=%f, backend_config={{"estimated_cycles":"{cycles}"}}'
  )


def test_estimated_cycles_add_up():
  found = run(work("%a", 1), work("%b", 2))
  assert found.predicted_s == found.core_s == pytest.approx(3e-3)


def test_a_synchronous_collective_stalls_the_core():
  found = run(work("%a", 1), f"%g = {GATHERED} all-gather(%p), {ALL}, dimensions={{0}}")
  assert found.exposed_collective_s == pytest.approx(GATHER_MS * 1e-3)
  assert found.predicted_s == pytest.approx((1 + GATHER_MS) * 1e-3)
  assert found.collective_bytes == {"all-gather": 96e6}


@pytest.mark.parametrize(("ms", "waits_ms"), [(0.4, GATHER_MS - 0.4), (5, 0)])
def test_what_is_hidden_costs_nothing(ms, waits_ms):
  found = run(
    f"%s = {ASYNC} all-gather-start(%p), {ALL}, dimensions={{0}}",
    work("%a", ms),
    f"%d = {GATHERED} all-gather-done(%s)",
  )
  assert found.exposed_collective_s == pytest.approx(waits_ms * 1e-3)
  assert found.core_s == pytest.approx(ms * 1e-3)


def test_collectives_share_the_links():
  start = f"all-gather-start(%p), {ALL}, dimensions={{0}}"
  found = run(
    f"%s = {ASYNC} {start}",
    f"%t = {ASYNC} {start}",
    work("%a", GATHER_MS),
    f"%d = {GATHERED} all-gather-done(%s)",
    f"%e = {GATHERED} all-gather-done(%t)",
  )
  assert found.exposed_collective_s == pytest.approx(GATHER_MS * 1e-3)


def test_a_collective_spread_over_fusions_is_hidden_by_those_between():
  role = 'custom-call(%x), custom_call_target="AsyncCollective'
  inner = (
    f"  %x = {PART} parameter(0)\n"
    f'  %g = {GATHERED} all-gather(%x), {ALL}, frontend_attributes={{chain_id="3"}}\n'
  )
  others = "".join(
    f'%{name} (x: {PART}) -> {GATHERED} {{\n{inner}  %c = {PART} {role}{which}"\n}}\n'
    for name, which in (("begin", "Start"), ("end", "Done"))
  )
  found = run(
    f"%s = {GATHERED} fusion(%p), kind=kCustom, calls=%begin",
    work("%a", 0.5),
    f"%d = {GATHERED} fusion(%s), kind=kCustom, calls=%end",
    others=others,
  )
  assert found.exposed_collective_s == pytest.approx((GATHER_MS - 0.5) * 1e-3)
  assert found.core_s == pytest.approx(0.5e-3)


LOOP = f"""%body (x: (s32[], {PART})) -> (s32[], {PART}) {{
  %x = (s32[]{{:T(128)}}, {PART}) parameter(0)
  %c = s32[]{{:T(128)}} get-tuple-element(%x), index=0
  %v = {PART} get-tuple-element(%x), index=1
  %one = s32[]{{:T(128)}} constant(1)
  %next = s32[]{{:T(128)S(6)}} add(%c, %one)
  %w = {PART} fusion(%v), calls=%f, backend_config={{"estimated_cycles":"1500000"}}
  ROOT %r = (s32[]{{:T(128)}}, {PART}) tuple(%next, %w)
}}
%condition (y: (s32[], {PART})) -> pred[] {{
  %y = (s32[]{{:T(128)}}, {PART}) parameter(0)
  %d = s32[]{{:T(128)}} get-tuple-element(%y), index=0
  %n = s32[]{{:T(128)}} constant(7)
  ROOT %less = pred[]{{:T(512)S(6)}} compare(%d, %n), direction=LT
}}
"""
BEFORE = (
  "%zero = s32[]{:T(128)} constant(0)",
  f"%t = (s32[]{{:T(128)}}, {PART}) tuple(%zero, %p)",
)


@pytest.mark.parametrize(
  ("told", "trips"), [("", 7), (', backend_config={"known_trip_count":{"n":"26"}}', 26)]
)
def test_a_loop_takes_its_body_as_often_as_it_runs(told, trips):
  line = f"%l = (s32[], {PART}) while(%t), condition=%condition, body=%body{told}"
  found = run(*BEFORE, line, others=LOOP)
  assert found.predicted_s == pytest.approx(trips * 1e-3, rel=1e-5)
  assert found.operations[0].count == trips
  assert not found.assumed


def test_a_loop_whose_trips_cannot_be_told_is_said_to_be_taken_once():
  line = f"%l = (s32[], {PART}) while(%p), condition=%condition, body=%body"
  found = run(line, others=LOOP)
  assert found.predicted_s == pytest.approx(1e-3, rel=1e-5)
  assert found.assumed == {"a loop whose trips are not known: one": 1}


def test_a_copy_waits_for_hbm():
  """72 columns take up the room of 128, and are copied so."""
  narrow = "bf16[80000,72]{1,0:T(8,128)(2,1)}"
  in_vmem = narrow.replace("}", "S(1)}")
  found = run(f"%s = ({in_vmem}, {narrow}, u32[]) copy-start(%p)", f"%d = {in_vmem} copy-done(%s)")
  assert found.exposed_copy_s == pytest.approx(80000 * 128 * 2 / 819e9)


def test_a_kernel_takes_the_roofline_of_its_own_estimate():
  estimate = '{"cost_estimate":{"flops":"197000000000","bytes_accessed":"1000"}}'
  found = run(
    f'%k = {PART} custom-call(%p), custom_call_target="tpu_custom_call", backend_config={estimate}'
  )
  assert found.core_s == pytest.approx(1e-3)


SQUARE = [(0, 1), (1, 5), (5, 4), (4, 0)]  # neighbours, and back to the first
TURNED = [(b, a) for a, b in SQUARE]
ELSEWHERE = [(10, 11), (11, 10)]
PERMUTE_S = 6e6 / 4.5e10 + 1e-6


@pytest.mark.parametrize(
  ("second", "seconds"),
  [(SQUARE, 2 * PERMUTE_S), (TURNED, PERMUTE_S), (ELSEWHERE, PERMUTE_S)],
)
def test_permutes_wait_for_the_links_that_they_share(second, seconds):
  pairs = ["{" + ",".join(f"{{{a},{b}}}" for a, b in each) + "}" for each in (SQUARE, second)]
  tuple_of = f"({PART}, {PART}, u32[], u32[])"
  found = run(
    f"%s = {tuple_of} collective-permute-start(%p), source_target_pairs={pairs[0]}",
    f"%t = {tuple_of} collective-permute-start(%p), source_target_pairs={pairs[1]}",
    f"%d = {PART} collective-permute-done(%s)",
    f"%e = {PART} collective-permute-done(%t)",
  )
  assert found.exposed_collective_s == pytest.approx(seconds)


@pytest.mark.parametrize(
  ("text", "groups"),
  [
    ("replica_groups={{0,1},{2,3}}", [[0, 1], [2, 3]]),
    ("replica_groups=[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2] {'b'}", [[0, 1], [2, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
    ("replica_groups={}", [[0, 1, 2, 3]]),
  ],
)
def test_groups_in_all_their_spellings(text, groups):
  np.testing.assert_array_equal(hlo.replica_groups(f", {text}, x=1", 4), groups)


def test_text_that_is_no_module_is_refused():
  with pytest.raises(ValueError, match="no ENTRY"):
    hlo.parse("nothing")


def test_groups_along_different_axes_do_not_share_links():
  rows = "replica_groups=[4,4]<=[16]"
  columns = "replica_groups=[4,4]<=[4,4]T(1,0)"
  part = "bf16[1,4000000]{1,0:T(1,128)}"
  whole = "bf16[4,4000000]{1,0:T(4,128)}"

  def waits(*groups):
    starts = [
      f"%s{n} = (({part}), {whole}) all-gather-start(%q), {group}, dimensions={{0}}"
      for n, group in enumerate(groups)
    ]
    ends = [f"%d{n} = {whole} all-gather-done(%s{n})" for n in range(len(groups))]
    return run(f"%q = {part} parameter(1)", *starts, *ends).exposed_collective_s

  one = waits(rows)
  assert one == pytest.approx(32e6 * 3 / 4 / 4.5e10 + 3e-6)
  assert waits(rows, columns) == pytest.approx(one)
  assert waits(rows, rows) == pytest.approx(2 * one)


def test_an_all_reduce_of_which_a_part_is_kept_is_a_reduce_scatter():
  others = (
    f"%scatters (x: {GATHERED}) -> {PART} {{\n  %x = {GATHERED} parameter(0)\n"
    f"  %s = {GATHERED} all-reduce(%x), {ALL}, to_apply=%add\n  %i = u32[] partition-id()\n"
    f"  ROOT %d = {PART} dynamic-slice(%s, %i, %i), dynamic_slice_sizes={{1,3000000}}\n}}\n"
  )
  found = run(
    f"%x = {GATHERED} parameter(1)",
    f"%r = {PART} fusion(%x), kind=kCustom, calls=%scatters",
    others=others,
  )
  assert found.exposed_collective_s == pytest.approx(GATHER_MS * 1e-3)
  assert found.collective_bytes == {"reduce-scatter": 96e6}


def test_what_hosts_exchange_between_slices_takes_the_network():
  told = (
    '_xla_host_transfer_rendezvous="{0}",_xla_megascale_target="{{1,2}}x{{0:15}}",'
    '_xla_megascale_transfer_type="{1}"'
  )
  parts = f"({PART}, u32[], token[])"

  def waits(kind, ms):
    attributes = f"is_host_transfer=true, frontend_attributes={{{told.format('a', kind)}}}"
    return run(
      "%after = token[] after-all()",
      f"%s = {parts} send(%p, %after), {attributes}",
      f"%r = {parts} recv(%after), {attributes}",
      work("%a", ms),
      "%e = token[] send-done(%s)",
      f"%d = ({PART}, token[]) recv-done(%r)",
    )

  found = waits("ALL_REDUCE", 0)
  assert found.exposed_collective_s == pytest.approx(6e6 / 3.125e9)
  assert found.collective_bytes == {"between slices": 6e6}
  assert waits("ALL_GATHER", 0).exposed_collective_s == pytest.approx(3e6 / 3.125e9)
  assert waits("ALL_REDUCE", 1.9).exposed_collective_s == pytest.approx(6e6 / 3.125e9 - 1.9e-3)


def test_the_dearest_branch_counts():
  branches = "".join(
    f"%{name} (x: {PART}) -> {PART} {{\n  %x = {PART} parameter(0)\n  {work('%w', ms, '%x')}\n}}\n"
    for name, ms in (("cheap", 1), ("dear", 3))
  )
  line = f"%c = {PART} conditional(%p, %p, %p), branch_computations={{%cheap, %dear}}"
  assert run(line, others=branches).predicted_s == pytest.approx(3e-3)


def test_the_floor_takes_elementwise_work_at_the_bandwidth_and_products_as_estimated():
  product = (
    f"%f (x: {PART}) -> {PART} {{\n  %x = {PART} parameter(0)\n"
    "  %y = bf16[3000000,8] parameter(1)\n"
    "  ROOT %c = bf16[1,8]{1,0} convolution(%x, %y), dim_labels=bf_io->bf\n}\n"
  )
  told = 'backend_config={"window_config":{"estimated_cycles":"150000"}}'
  elementwise = f"%e = {PART} exponential(%p), {told}"
  found = run(elementwise, work("%a", 2), others=product)
  assert found.predicted_s == pytest.approx(2.1e-3)
  assert found.floor_s == pytest.approx(2e-3 + 2 * 6e6 / 819e9)
  assert found.flops == 2 * 3000000 * 8
  by_opcode = {operation.opcode: operation for operation in found.operations}
  assert by_opcode["exponential"].floor_s == pytest.approx(2 * 6e6 / 819e9)


def test_what_has_no_estimate_takes_its_bytes_and_is_named():
  found = run(f'%t = {PART} custom-call(%p), custom_call_target="TopK"')
  assert found.core_s == pytest.approx(2 * 6e6 / 819e9)
  assert found.assumed == {"TopK: its bytes in HBM": 1}
  bare = run(f'%t = {PART} custom-call(%p), custom_call_target="tpu_custom_call"')
  assert bare.assumed == {"a kernel without a cost estimate: its bytes in HBM": 1}
  free = run(f'%t = {PART} custom-call(), custom_call_target="AllocateBuffer"')
  assert (free.core_s, free.assumed) == (0.0, {})


def test_what_a_loop_does_not_hide_it_waits_for_in_every_turn():
  inner = (
    f"  %s = {ASYNC} all-gather-start(%v), {ALL}, dimensions={{0}}\n"
    f'  %w = {PART} fusion(%v), calls=%f, backend_config={{"estimated_cycles":"600000"}}\n'
    f"  %e = {GATHERED} all-gather-done(%s)\n"
  )
  start = LOOP.index("  %w = ")
  loop = LOOP[:start] + inner + LOOP[LOOP.index("\n", start) + 1 :]
  found = run(
    *BEFORE,
    f"%l = (s32[], {PART}) while(%t), condition=%condition, body=%body",
    others=loop,
  )
  assert found.predicted_s == pytest.approx(7 * GATHER_MS * 1e-3, rel=1e-4)
  assert found.exposed_collective_s == pytest.approx(7 * (GATHER_MS - 0.4) * 1e-3, rel=1e-4)
  assert found.collective_counts == {"all-gather": 7}
