"""What the configs of a chain of distillation share: options, teachers, stages."""

from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict


def parse(arg: str, defaults: Mapping[str, str]) -> dict[str, str]:
  """ "root=x,seed=1" over the defaults; an unknown option raises KeyError with the known ones."""
  options = dict(pair.split("=", 1) for pair in arg.split(",") if pair)
  for name in options:
    if name not in defaults:
      raise KeyError(f"option {name!r}; known: {', '.join(defaults)}")
  return {**defaults, **options}


def teachers(root: str, names: Iterable[str], direction: str = "forward") -> tuple[dict, ...]:
  """Stages whose caches teach another. The numbers are those of DEEVISum's published code."""
  return tuple(
    {
      "name": name,
      "workdir": f"{root}/{name}",
      "cache": f"{root}/{name}_cache",
      "weight": 0.5,  # phi = psi = 0.5 in most of its scripts
      "temperature": 2.0,
      "direction": direction,  # forward there; the paper's formula is "reverse"
    }
    for name in names
  )


def chain(root: str, configs: Mapping[str, str]) -> ConfigDict:
  """The stages of launch/chain.py: {name: config}, each but the last with a cache."""
  *_, last = configs
  stages = [
    {
      "name": name,
      "config": config,
      "workdir": f"{root}/{name}",
      "cache": "" if name == last else f"{root}/{name}_cache",
    }
    for name, config in configs.items()
  ]
  return ConfigDict({"stages": tuple(stages)})
