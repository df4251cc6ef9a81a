"""Imports go down only, as the layers below say; nothing happens at import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
  "types": 0,
  "contract": 1,
  "host": 2,
  "ops": 3,
  "media": 3,
  "sharding": 4,
  "models": 5,
  "data": 5,
  "evaluation": 5,
  "summary": 5,
  "tasks": 6,
  "convert": 6,
  "training": 6,
  "inference": 6,
  "testing": 6,
  "tpu": 6,
  "experiment": 7,
  "jobs": 8,
  "benchmarks": 9,
  "studies": 9,
  "cli": 10,
}
MODULES = sorted((ROOT / "vsumjax").rglob("*.py"))
HOST_SIDE = ("media", "data", "evaluation", "summary")
# What opens media files: `media`, and the benchmark that compares it with bare PyAV.
OPENS_MEDIA = ("media", "benchmarks/loader.py")


def _part(module: str) -> str:
  """vsumjax.media.video -> data."""
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
    return True
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
  assert not _allowed("types", "host")


def test_every_part_has_a_layer():
  assert {_own_part(path) for path in MODULES} - {"__init__"} <= LAYERS.keys()


@pytest.mark.parametrize("part", HOST_SIDE)
def test_host_side_never_touches_a_device(part):
  for path in (ROOT / "vsumjax" / part).rglob("*.py"):
    found = {name for name in _imports(path) if name.split(".")[0] in ("jax", "flax", "optax")}
    assert not found, f"{path} imports {found}"


def test_only_media_opens_media_files():
  for path in MODULES:
    name = str(path.relative_to(ROOT / "vsumjax"))
    if not name.startswith(OPENS_MEDIA):
      assert not {each for each in _imports(path) if each.split(".")[0] == "av"}, path


def _module(path: Path) -> str:
  return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _cycle(imports: dict[str, set[str]]) -> list[str]:
  """The first circle of modules that is found; none if there is none."""
  finished: set[str] = set()

  def visit(module: str, path: list[str]) -> list[str]:
    if module in path:
      return [*path[path.index(module) :], module]
    if module not in finished:
      for other in sorted(imports.get(module, ())):
        if found := visit(other, [*path, module]):
          return found
      finished.add(module)
    return []

  return next((found for module in sorted(imports) if (found := visit(module, []))), [])


def test_no_file_imports_itself_through_others():
  names = {_module(path) for path in MODULES}
  imports = {}
  for path in MODULES:
    found = _imports(path)
    # `from a import b` is a module a.b, or a name of the module a.
    of_modules = {each if each in names else each.rpartition(".")[0] for each in found}
    imports[_module(path)] = of_modules & names
  assert _cycle(imports) == []


def test_a_circle_is_found():
  assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
  assert _cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


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
