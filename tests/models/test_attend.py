import pytest

from vsumjax import sharding, testing
from vsumjax.models import attend
from vsumjax.sharding import MeshConfig
from vsumjax.types import InputError


def test_elsewhere_than_on_a_tpu_it_is_the_reference():
  with sharding.use_mesh(sharding.build_mesh(MeshConfig())):
    assert not attend.uses_flash("auto", 8, 4096)
    assert not attend.uses_flash("reference", 8, 4096)
    with pytest.raises(InputError, match=r"model.attention: 'flash' cannot run: .* of cpu"):
      attend.uses_flash("flash", 8, 4096)


def test_an_unknown_kind_is_refused_by_its_key():
  with pytest.raises(InputError, match=r"model.attention: 'splash' is not one of auto, reference"):
    testing.tiny_config(attention="splash")


class FakeTPU:
  platform = "tpu"


@pytest.mark.parametrize(
  ("rows", "tokens", "sizes", "expected"),
  [
    (8, 512, {"data": 2, "fsdp": 2, "tensor": 1}, True),
    (8, 256, {"data": 2, "fsdp": 2, "tensor": 1}, False),
    (6, 1024, {"data": 2, "fsdp": 2, "tensor": 1}, False),
    (8, 1024, {"data": 2, "fsdp": 1, "tensor": 2}, False),
  ],
)
def test_auto_takes_the_kernels_where_they_can_run_and_pay(rows, tokens, sizes, expected):
  class FakeMesh:
    shape = sizes
    devices = type("Devices", (), {"flat": [FakeTPU()]})

  with sharding.use_mesh(FakeMesh()):
    assert attend.uses_flash("auto", rows, tokens) == expected
