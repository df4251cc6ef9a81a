"""Every mutation of `make mutations` can be made, and its test is there."""

import ast

import mutations
import pytest


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_can_be_made(mutation):
  text = (mutations.ROOT / mutation.file).read_text()
  ast.parse(mutations.mutated(mutation, text))
  file, name = mutation.test.split("::")
  functions = ast.parse((mutations.ROOT / file).read_text()).body
  assert name in [node.name for node in functions if isinstance(node, ast.FunctionDef)]
