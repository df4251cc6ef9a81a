"""The demo's figures with seeds: what distillation, exits and each input are worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rich.box
import rich.console
import rich.table

from vsumjax.data import fake
from vsumjax.data.pipeline import INPUTS
from vsumjax.files import write_atomically
from vsumjax.jobs.demo import Chain, make_corpus
from vsumjax.jobs.evaluate import Evaluation, evaluate
from vsumjax.summary import protocols

Measures = dict[str, list[float]]  # τ, ρ, F1 and τ / ceiling, one value a seed


def run_study(config_file: Path, root: Path, seeds: Sequence[int]) -> dict[str, Measures]:
  """Trains the chain and an undistilled student for every seed, on one corpus; prints a table.

  Finished stages are reused. Every value is in root/study.json: {row: {measure: [a value a
  seed]}}.
  """
  make_corpus(root, fake.FakeConfig())
  rows: dict[str, Measures] = {}
  for seed in seeds:
    for name, row, ceiling in _run_seed(Chain(config_file, root / f"seed_{seed}", root, seed)):
      measures = rows.setdefault(name, {"tau": [], "rho": [], "f1": [], "share_of_ceiling": []})
      values = (row.tau, row.rho, row.f1, row.tau / ceiling)
      for values_of_seeds, value in zip(measures.values(), values, strict=True):
        values_of_seeds.append(value)
  write_atomically(root / "study.json", json.dumps({"seeds": list(seeds), "rows": rows}, indent=1))
  _print_table(f"Held-out videos, means of {len(seeds)} seeds (± standard deviation)", rows)
  return rows


def _run_seed(chain: Chain) -> list[tuple[str, protocols.Row, float]]:
  taught_by = {}
  for stage in ("teacher", "mentor"):
    taught_by[stage] = chain.train(stage)
    chain.cache(stage)
  distilled = chain.train("student")
  alone = chain.train("student", workdir="student_alone", distil="false")

  def measure(workdir: Path, *without: str) -> Evaluation:
    return evaluate(workdir, None, without=frozenset(without), show=False)

  student = measure(distilled)
  named = [(f"student, {row.name}", row) for row in student.exits]
  named += [(f"CE only, {row.name}", row) for row in measure(alone).exits]
  named += [(f"student without {name}", measure(distilled, name).last) for name in INPUTS]
  named += [(stage, measure(taught_by[stage]).last) for stage in ("mentor", "teacher")]
  named += [(row.name, row) for row in student.context]
  ceiling = student.row(protocols.CEILING).tau
  return [(name, row, ceiling) for name, row in named]


def _print_table(title: str, rows: dict[str, Measures]) -> None:
  table = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD, title_justify="left")
  table.add_column("")
  for name in ("τ", "ρ", "F1", "τ / ceiling"):
    table.add_column(name, justify="right")
  for name, measures in rows.items():
    tau, rho, f1, share = (float(np.mean(values)) for values in measures.values())
    # One value has no deviation.
    deviation = f" ± {np.std(measures['tau'], ddof=1):.3f}" if len(measures["tau"]) > 1 else ""
    table.add_row(name, f"{tau:.3f}{deviation}", f"{rho:.3f}", f"{f1:.3f}", f"{share:.0%}")
  rich.console.Console().print(table)
