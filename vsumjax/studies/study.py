"""The demo's figures with seeds: what each part of the distillation and each input is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rich.box
import rich.console
import rich.table

from vsumjax.data.made import corpora
from vsumjax.data.reading import INPUTS
from vsumjax.evaluation import labelled
from vsumjax.evaluation.folds import Interval
from vsumjax.experiment.config import load_chain, load_config
from vsumjax.host.files import write_atomically
from vsumjax.jobs.chain import run_chain
from vsumjax.jobs.demo import chain_spec, make_corpus
from vsumjax.jobs.evaluate import Evaluation, evaluate
from vsumjax.jobs.train import train

Measures = dict[str, list[float]]  # τ, ρ, F1 and τ / ceiling, one value a seed

# Students beside the one of the chain: {name: options of the config file}.
ABLATIONS = {
  "CE only": "kd=none",
  "single-stage KD": "kd=single",
  "MSKD": "",
  "CE only, no exits": "kd=none,exits=last",
  "single-stage KD, no exits": "kd=single,exits=last",
  "MSKD, no exits": "exits=last",
  "MSKD, reverse KL": "direction=reverse",
  "MSKD, JS": "direction=js",
  "MSKD + self-distillation": "self=0.5",
  "MSKD + ranking": "ranking=1.0",
}
_BASELINES = {name: "CE only, no exits" if "no exits" in name else "CE only" for name in ABLATIONS}
_STUDENT = "MSKD"  # the chain's own


def run_study(config_file: Path, root: Path, seeds: Sequence[int]) -> dict[str, Measures]:
  """Trains the chain and the ablations of its student for every seed, on one corpus.

  Prints two tables. Finished stages are reused. Every value is in root/study.json: {row: {measure:
  [a value a seed]}}.
  """
  make_corpus(root, corpora.CorpusConfig())
  rows: dict[str, Measures] = {}
  for seed in seeds:
    for name, row, ceiling in _run_seed(config_file, root / f"seed_{seed}", root, seed):
      measures = rows.setdefault(name, {"tau": [], "rho": [], "f1": [], "share_of_ceiling": []})
      values = (row.tau, row.rho, row.f1, row.tau / ceiling)
      for values_of_seeds, value in zip(measures.values(), values, strict=True):
        values_of_seeds.append(value)
  write_atomically(root / "study.json", json.dumps({"seeds": list(seeds), "rows": rows}, indent=1))
  _print_table(f"Held-out videos, means of {len(seeds)} seeds (± standard deviation)", rows)
  _print_ablations(f"Ablations: τ of the last exit, {len(seeds)} seeds, 95 % intervals", rows)
  return rows


def _run_seed(
  config_file: Path, root: Path, corpus: Path, seed: int
) -> list[tuple[str, labelled.Row, float]]:
  spec = chain_spec(config_file, root, corpus, seed)
  chain = load_chain(spec)
  run_chain(chain)
  workdirs = {stage.name: Path(stage.workdir) for stage in chain.stages}
  students = {
    name: _train_student(spec, root, options) if options else workdirs["student"]
    for name, options in ABLATIONS.items()
  }

  def measure(workdir: Path, *without: str) -> Evaluation:
    return evaluate(workdir, None, without=frozenset(without), show=False)

  of_students = {name: measure(workdir) for name, workdir in students.items()}
  named = [
    (f"{name}, {row.name}", row) for name, found in of_students.items() for row in found.exits
  ]
  named += [(f"ablation: {name}", found.last) for name, found in of_students.items()]
  named += [(f"MSKD without {name}", measure(workdirs["student"], name).last) for name in INPUTS]
  named += [(stage, measure(workdirs[stage]).last) for stage in ("mentor", "teacher")]
  context = of_students[_STUDENT]
  named += [(row.name, row) for row in context.context]
  ceiling = context.row(labelled.CEILING).tau
  return [(name, row, ceiling) for name, row in named]


def _train_student(spec: str, root: Path, options: str) -> Path:
  config_file, _, chain_options = spec.partition(":")
  config = load_config(f"{config_file}:student,{chain_options},{options}")
  return train(config, root / f"student_{options.replace('=', '_').replace(',', '_')}")


def _print_table(title: str, rows: Mapping[str, Measures]) -> None:
  table = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD, title_justify="left")
  table.add_column("")
  for name in ("τ", "ρ", "F1", "τ / ceiling"):
    table.add_column(name, justify="right")
  for name, measures in rows.items():
    if name.startswith("ablation: "):
      continue
    tau, rho, f1, share = (float(np.mean(values)) for values in measures.values())
    # One value has no deviation.
    deviation = f" ± {np.std(measures['tau'], ddof=1):.3f}" if len(measures["tau"]) > 1 else ""
    table.add_row(name, f"{tau:.3f}{deviation}", f"{rho:.3f}", f"{f1:.3f}", f"{share:.0%}")
  rich.console.Console().print(table)


def _print_ablations(title: str, rows: Mapping[str, Measures]) -> None:
  table = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD, title_justify="left")
  table.add_column("student")
  table.add_column("τ", justify="right")
  table.add_column("more than the same without teachers, seed by seed", justify="right")
  for name, baseline in _BASELINES.items():
    tau = np.array(rows[f"ablation: {name}"]["tau"])
    gain = tau - rows[f"ablation: {baseline}"]["tau"]
    table.add_row(name, f"{Interval.of(tau)}", "" if name == baseline else f"{Interval.of(gain):+}")
  rich.console.Console().print(table)
