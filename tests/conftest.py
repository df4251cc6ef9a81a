"""Eight CPU devices, executed shape annotations, no silent rank promotion."""

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook(["vsumjax.ops", "vsumjax.models"], "beartype.beartype")
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

from vsumjax import sharding  # noqa: E402  (after the hook)


@pytest.fixture
def one_device():
  """Within it, `constrain` acts on a mesh of one device."""
  with sharding.use_mesh(sharding.build_mesh(sharding.MeshConfig(), jax.devices()[:1])) as mesh:
    yield mesh
