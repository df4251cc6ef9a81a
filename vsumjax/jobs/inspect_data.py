"""Show a batch as the model gets it: frames, prompt, targets and masks."""

from __future__ import annotations

import itertools
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vsumjax.data import pipeline
from vsumjax.data.order import MixedOrder
from vsumjax.data.tokenizer import Tokenizer
from vsumjax.data.windows import WindowSource
from vsumjax.experiment.config import ExperimentConfig
from vsumjax.experiment.experiment import build_experiment
from vsumjax.host.files import replacing, write_atomically
from vsumjax.tasks.score.task import ScoreTask, require_score
from vsumjax.types import Batch, InputError

_TEXT_COLUMNS = 62
_KINDS = {"masked out": "white", "image": "#7fb2d9", "text": "#c9c9c9", "read here": "#d62728"}


def inspect_data(
  config: ExperimentConfig, out: Path, *, step: int = 0, rows: int = 6
) -> list[dict[str, Any]]:
  """Writes batch.png and batch.json of the first rows of a training batch, and prints a table.

  The batch is the very one that training gets at that step, augmented if training is.

  Args:
    config: of the run.
    out: folder of the results.
    step: which batch.
    rows: how many of its rows are shown at most.

  Raises:
    InputError: a step or number of rows below 0 or 1, and whatever is wrong with the data.
  """
  if not 0 <= step < 2**31 or rows < 1:
    raise InputError(f"--step {step} must be 0 to 2**31 - 1, --rows {rows} must be 1 or more")
  require_score(config.task, "inspect data")
  task = build_experiment(config).task
  source = task.training_source()
  batch = next(
    pipeline.training_batches(
      source,
      MixedOrder(source.parts, config.train.seed),
      config.train.batch_size,
      start_step=step,
      num_steps=1,
      seed=config.train.seed,
      num_threads=config.task.num_threads,
    )
  )
  rows = min(rows, config.train.batch_size)
  described = [describe_row(batch, row, source, task) for row in range(rows)]
  write_atomically(out / "batch.json", json.dumps(described, indent=1, ensure_ascii=False))
  save_sheet(
    out / "batch.png", batch, described, f"Step {step}, {rows} of {len(batch.example)} rows"
  )
  _print_table(described, source, step)
  print(f"open {out / 'batch.png'}")
  return described


def describe_row(batch: Batch, row: int, source: WindowSource, task: ScoreTask) -> dict[str, Any]:
  """One row in words and numbers, as JSON holds them."""
  example = int(batch.example[row])
  index, first = source.window(example)
  span_s_N2 = source.spans(index)[first : first + task.config.prompt.window]
  tokens_T, mask_T = batch.tokens[row], batch.input_mask[row]
  read_at = batch.score_pos[row].tolist()
  return {
    "example": example,
    "video": source.videos[index].id,
    "span_s": np.round(span_s_N2, 3).tolist(),
    "prompt": spell(tokens_T, mask_T, read_at, task.tokenizer),
    "tokens": {
      "image": int((mask_T & (tokens_T == task.tokenizer.image_id)).sum()),
      "text": int((mask_T & (tokens_T != task.tokenizer.image_id)).sum()),
      "masked out": int((~mask_T).sum()),
    },
    "causal tokens": int(batch.mask_ar[row].sum()),
    "kinds": _kinds(tokens_T, mask_T, read_at, task.tokenizer),
    "read at": read_at,
    "targets": np.round(batch.targets[row], 4).tolist(),
    "weight": batch.weight[row].tolist(),
  }


def spell(
  tokens_T: np.ndarray, mask_T: np.ndarray, read_at: list[int], tokenizer: Tokenizer
) -> str:
  """The sequence in one line: image slots and padding counted, `^` after what is read.

  `<image>×9 <bos>score importance. title: Dogs. said: it barks⏎^ <masked>×4`
  """

  def kind(position: int) -> str:
    if not mask_T[position]:
      return "<masked>"
    return "<image>" if tokens_T[position] == tokenizer.image_id else ""

  parts = []
  for name, run in itertools.groupby(range(len(tokens_T)), kind):
    positions = list(run)
    if name:
      parts.append(f"{name}×{len(positions)}")
      continue
    text, start = "", positions[0]
    for read in [p for p in read_at if p in positions]:
      text += _words(tokens_T[start : read + 1], tokenizer) + "^"
      start = read + 1
    parts.append(text + _words(tokens_T[start : positions[-1] + 1], tokenizer))
  return " ".join(parts)


def _kinds(
  tokens_T: np.ndarray, mask_T: np.ndarray, read_at: list[int], tokenizer: Tokenizer
) -> list[int]:
  """What each token is: an index into `_KINDS`."""
  kinds_T = np.where(mask_T, np.where(tokens_T == tokenizer.image_id, 1, 2), 0)
  kinds_T[[position for position in read_at if mask_T[position]]] = 3
  return kinds_T.tolist()


def _words(tokens: np.ndarray, tokenizer: Tokenizer) -> str:
  is_bos = len(tokens) and tokens[0] == tokenizer.bos_id
  return ("<bos>" if is_bos else "") + tokenizer.decode(tokens.tolist()).replace("\n", "⏎")


def save_sheet(path: Path, batch: Batch, described: list[dict[str, Any]], title: str) -> None:
  """A PNG with one band a row: its frames, the targets of its segments, its prompt."""
  figure = Figure(figsize=(15, 0.8 + 2.3 * len(described)), dpi=90, layout="constrained")
  FigureCanvasAgg(figure)
  figure.suptitle(title)
  grid = figure.add_gridspec(len(described), 3, width_ratios=(5, 2.5, 5))
  for row, about in enumerate(described):
    _draw_frames(figure.add_subplot(grid[row, 0]), batch.frames[row], about)
    axes = figure.add_subplot(grid[row, 1])
    _draw_targets(axes, batch.targets[row], batch.weight[row])
    axes = figure.add_subplot(grid[row, 2])
    _draw_prompt(axes, about)
    _draw_mask(axes.inset_axes((0, 0, 1, 0.08)), batch, row, about["kinds"])
  with replacing(path) as temporary:
    figure.savefig(temporary)


def _draw_frames(axes: Axes, frames_NFHW3: np.ndarray, about: dict[str, Any]) -> None:
  """The frames of a segment from left to right, segments below each other if there are many."""
  axes.axis("off")
  start_s, end_s = about["span_s"][0][0], about["span_s"][-1][1]
  axes.set_title(
    f"example {about['example']}: {about['video']}, {start_s:.1f}–{end_s:.1f} s",
    fontsize=9,
    loc="left",
    parse_math=False,
  )
  if frames_NFHW3.size:  # else the model reads text alone
    axes.imshow(_tile(frames_NFHW3), interpolation="nearest")


def _tile(frames_NFHW3: np.ndarray) -> np.ndarray:
  """u8[height, width, 3]: all frames on white."""
  num_segments, num_frames, height, width, _ = frames_NFHW3.shape
  num_columns = max(num_frames, min(6, num_segments * num_frames) // num_frames * num_frames)
  flat = frames_NFHW3.reshape(-1, height, width, 3)
  num_lines = -(-len(flat) // num_columns)
  sheet = np.full((num_lines * (height + 2), num_columns * (width + 2), 3), 255, np.uint8)
  for index, frame in enumerate(flat):
    line, column = divmod(index, num_columns)
    top, left = line * (height + 2), column * (width + 2)
    sheet[top : top + height, left : left + width] = frame
  return sheet


def _draw_targets(axes: Axes, targets_NC: np.ndarray, weight_N: np.ndarray) -> None:
  num_segments, num_levels = targets_NC.shape
  axes.imshow(targets_NC.T, origin="lower", vmin=0, vmax=1, aspect="auto", cmap="Blues")
  for segment, level in np.ndindex(num_segments, num_levels):
    share = targets_NC[segment, level]
    if share and num_segments <= 8:
      axes.text(segment, level, f"{share:.2f}", ha="center", va="center", fontsize=7)
  axes.set_yticks(range(num_levels), [str(level + 1) for level in range(num_levels)], fontsize=7)
  labels = [
    f"{segment}" if weight else f"{segment}\n(0)" for segment, weight in enumerate(weight_N)
  ]
  axes.set_xticks(range(num_segments), labels, fontsize=7)
  axes.set_title("share of level by segment; (0): weighs nothing", fontsize=8)


def _draw_prompt(axes: Axes, about: dict[str, Any]) -> None:
  counts = ", ".join(f"{count} {name}" for name, count in about["tokens"].items())
  lines = [*textwrap.wrap(about["prompt"], _TEXT_COLUMNS)[:12], "", counts]
  axes.axis("off")
  axes.text(
    0, 1, "\n".join(lines), va="top", fontsize=8, family="monospace", parse_math=False,
    transform=axes.transAxes,
  )  # fmt: skip


def _draw_mask(axes: Axes, batch: Batch, row: int, kinds: list[int]) -> None:
  """The sequence as a strip, one cell a token."""
  axes.imshow([kinds], aspect="auto", cmap=ListedColormap(list(_KINDS.values())), vmin=0, vmax=3)
  axes.set_yticks([])
  axes.tick_params(labelsize=7)
  names = zip(_KINDS, _KINDS.values(), strict=True)
  handles = [Patch(facecolor=colour, edgecolor="grey", label=name) for name, colour in names]
  axes.legend(
    handles=handles, ncols=4, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), frameon=False
  )


def _print_table(described: list[dict[str, Any]], source: WindowSource, step: int) -> None:
  title = f"Step {step}: of {len(source)} examples in {len(source.videos)} videos"
  table = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD, title_justify="left")
  for name in ("example", "video", "seconds", "mean level", "weight", "prompt"):
    table.add_column(name, overflow="fold")
  for about in described:
    levels = [sum((k + 1) * share for k, share in enumerate(row)) for row in about["targets"]]
    table.add_row(
      str(about["example"]),
      about["video"],
      f"{about['span_s'][0][0]:.1f}–{about['span_s'][-1][1]:.1f}",
      " ".join(f"{level:.2f}" for level in levels),
      " ".join(f"{weight:g}" for weight in about["weight"]),
      rich.text.Text(about["prompt"]),
    )
  rich.console.Console().print(table)
