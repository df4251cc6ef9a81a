"""Table and figure of the study of sparse logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.box
import rich.console
import rich.table
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vsumjax.evaluation.folds import Interval
from vsumjax.host.files import replacing

COLORS = ("#222222", "#1f77b4", "#2ca02c", "#d62728", "#9467bd")
BASELINE = "full"


def excess_percent(report: Mapping[str, Any], name: str) -> list[float]:
  """By how much the last held-out KL is above that of full distributions, seed by seed."""
  last, full = (np.array(report["held_out_kl"][each])[:, -1] for each in (name, BASELINE))
  return [float(x) for x in 100 * (last / full - 1)]


def show(report: Mapping[str, Any]) -> None:
  """Prints the table."""
  settings, teacher = report["settings"], report["teacher"]
  title = (
    f"Held-out KL(teacher ‖ student), nats a token, after {settings['num_steps']} steps of "
    f"{settings['batch_size'] * settings['num_tokens']:,} tokens; {len(report['seeds'])} seeds, "
    f"95 % intervals\n{settings['num_entries']} entries of {settings['vocab_size']:,} tokens; the "
    f"{settings['num_entries']} likeliest hold {teacher['mass_of_likeliest']:.0%} of the teacher"
  )
  table = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD, title_justify="left")
  table.add_column("taught by")
  for name in ("bytes a token", "KL", "above full, %"):
    table.add_column(name, justify="right")
  for name, curves in report["held_out_kl"].items():
    size = report["bytes_per_token"].get("topk" if name == "renormalised" else name)
    last = [curve[-1] for curve in curves]
    excess = "" if name == BASELINE else f"{Interval.of(excess_percent(report, name)):+}"
    table.add_row(name, f"{size:.1f}" if size else "", f"{Interval.of(last)}", excess)
  rich.console.Console().print(table)


def draw(report: Mapping[str, Any], path: Path) -> None:
  """Curves of the held-out KL, a line a seed, and how it ends."""
  figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
  FigureCanvasAgg(figure)
  curves, bars = figure.subplots(1, 2, width_ratios=(3, 2))
  names = list(report["held_out_kl"])
  for name, color in zip(names, COLORS, strict=True):
    for index, values in enumerate(report["held_out_kl"][name]):
      label = "_" if index else name
      curves.plot(report["steps"], values, color=color, label=label, linewidth=1)
  curves.set(xlabel="step", ylabel="held-out KL(teacher ‖ student), nats a token", yscale="log")
  curves.legend(frameon=False)
  _draw_bars(bars, report, names)
  for axes in (curves, bars):
    axes.spines[["top", "right"]].set_visible(False)
  with replacing(path) as temporary:
    figure.savefig(temporary)


def _draw_bars(axes: Axes, report: Mapping[str, Any], names: Sequence[str]) -> None:
  last = [np.array(report["held_out_kl"][name])[:, -1] for name in names]
  place = np.arange(len(names))
  axes.barh(place, [values.mean() for values in last], color=COLORS)
  for y, values, name in zip(place, last, names, strict=True):
    axes.plot(values, np.full(len(values), y), "|", color="white")
    excess = "" if name == BASELINE else f" ({np.mean(excess_percent(report, name)):+.1f} %)"
    axes.text(values.mean(), y, f" {values.mean():.3f}{excess}", va="center")
  axes.set(
    yticks=place, yticklabels=names, xlabel="at the end", xlim=(0, 1.35 * max(map(np.max, last)))
  )
  axes.invert_yaxis()
