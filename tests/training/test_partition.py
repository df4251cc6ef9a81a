"""Every leaf is trained or frozen; patterns that cannot act are refused."""

import jax
import pytest

from vsumjax.training import partition
from vsumjax.types import InputError

BASE = {
  "img": {"embedding": {"kernel": 1, "bias": 2}},
  "llm": {"layers": {"mlp": {"linear": 3}}, "final_norm": {"scale": 4}},
  "exits": {"kernel": 5},
}
ADAPTED = BASE | {
  "llm": {
    "layers": {"mlp": {"linear": 3, "linear_lora_a": 6, "linear_lora_b": 7}},
    "final_norm": {"scale": 4},
  }
}


@pytest.mark.parametrize(
  ("params", "freeze", "frozen"),
  [
    (BASE, (), []),
    (BASE, ("img/.*",), [1, 2]),
    (BASE, (".*/bias", "llm/final_norm/scale"), [2, 4]),
    (BASE, ("img",), []),  # the whole path counts
    (ADAPTED, (), [1, 2, 3, 4]),
    (ADAPTED, ("exits/.*",), [1, 2, 3, 4, 5]),
  ],
)
def test_every_leaf_is_in_one_part(params, freeze, frozen):
  trained, rest = partition.split(params, freeze)
  assert sorted(jax.tree.leaves(rest)) == frozen
  assert sorted(jax.tree.leaves((trained, rest))) == sorted(jax.tree.leaves(params))
  assert partition.join(trained, rest) == params


@pytest.mark.parametrize(
  ("freeze", "message"),
  [
    (("img/.*", "ilm/layers/.*"), r"'ilm/layers/\.\*' matches no parameter; the nearest: llm/la"),
    (("img",), "'img' matches no parameter; the nearest: .*, .*, "),
    ((".*",), r"\['\.\*'\] leave no parameter to train"),
  ],
)
def test_patterns_that_cannot_act_are_refused(freeze, message):
  with pytest.raises(InputError, match=r"optimizer\.freeze: " + message) as raised:
    partition.check(BASE, freeze)
  assert "\n" not in str(raised.value)
