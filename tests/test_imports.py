"""Imports go down only, as the layers below say; nothing happens at import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
  "types": 0,
  "files": 0,
  "processes": 0,
  "progress": 0,
  "stopping": 0,
  "arrays": 1,
  "hdf5": 1,
  "tvsum_tsv": 1,
  "sharding": 1,
  "media": 1,
  "segmentation": 1,
  "ops": 1,
  "models": 2,
  "data": 2,
  "summary": 2,
  "language": 2,
  "convert": 3,
  "training": 3,
  "inference": 3,
  "testing": 3,
  "config": 4,
  "experiment": 5,
  "workdir": 6,
  "teachers": 7,
  "run": 8,
  "jobs": 9,
  "cli": 10,
}
PACKAGES = (
  "ops",
  "models",
  "data",
  "summary",
  "language",
  "convert",
  "training",
  "inference",
  "jobs",
)
MODULES = sorted((ROOT / "vsumjax").rglob("*.py"))
HOST_SIDE = ("data", "summary", "language")


def _part(module: str) -> str:
  """vsumjax.data.video -> data."""
  return module.split(".")[1] if "." in module else ""


def _imports(path: Path) -> set[str]:
  """Every module a file imports, inside functions too; `from a import b` counts as a.b."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import"
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  return names


def _own_part(path: Path) -> str:
  return path.relative_to(ROOT / "vsumjax").parts[0].removesuffix(".py")


def _allowed(part: str, other: str) -> bool:
  """Down, or inside the same package; siblings of one layer never import each other."""
  if part == other:
    return part in PACKAGES
  return LAYERS[other] < LAYERS[part]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
  part = _own_part(path)
  if part == "__init__":
    return
  for module in _imports(path):
    if module.startswith("vsumjax."):
      other = _part(module)
      assert _allowed(part, other), f"{path} (layer {LAYERS[part]}) imports {module}"


def test_the_rule_tells_up_from_down():
  assert _allowed("training", "models")
  assert not _allowed("models", "training")
  assert not _allowed("data", "models")
  assert not _allowed("types", "files")


def test_every_part_has_a_layer():
  assert {_own_part(path) for path in MODULES} - {"__init__"} <= LAYERS.keys()


@pytest.mark.parametrize("part", HOST_SIDE)
def test_host_side_never_touches_a_device(part):
  for path in (ROOT / "vsumjax" / part).rglob("*.py"):
    found = {name for name in _imports(path) if name.split(".")[0] in ("jax", "flax", "optax")}
    assert not found, f"{path} imports {found}"


def test_configs_import_ml_collections_and_each_other_only():
  for path in (ROOT / "configs").rglob("*.py"):
    parts = {name.split(".")[0] for name in _imports(path)}
    assert parts <= {"ml_collections", "configs", "collections"}, path


def test_launch_scripts_are_short():
  for path in (ROOT / "launch").glob("*.py"):
    assert len(path.read_text().splitlines()) < 80, path


def test_no_file_is_long():
  for path in [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "configs").rglob("*.py")]:
    limit = 120 if "configs" in path.parts else 400
    assert len(path.read_text().splitlines()) <= limit, path
