"""Build TVSum, SumMe or eccv16 files for TFDS, or a manifest of one's own folder of videos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.console
import rich.table

from vsumjax.data import manifest
from vsumjax.data.builders import Eccv16, Summe, Tvsum, eccv16, folder, stored
from vsumjax.data.builders.base import AnnotationBuilder
from vsumjax.host.progress import progress
from vsumjax.types import InputError

NAMES = ("tvsum", "summe", "eccv16")
_SHOWN = 10  # broken videos that are told one by one
_PARTS = ("titles", "seconds", "video files", "KTS segments", "frame features")


def build_dataset(name: str, manual_dir: Path, data_dir: Path) -> list[Path]:
  """Builds a data set unless it is there; prints what it holds.

  Args:
    name: one of `NAMES`; `eccv16` builds every file of that kind that is in `manual_dir`.
    manual_dir: folder of the authors' files.
    data_dir: TFDS's folder of data sets.

  Returns:
    The folders of the versions, each of which `load_manifest` reads.

  Raises:
    InputError: files that are missing or broken; nothing half-built is left.
  """
  paths = []
  for builder, config in _builders(name, manual_dir):
    path, is_new = stored.build(builder, manual_dir, data_dir, config=config)
    _print_dataset(path, is_new)
    paths.append(path)
  return paths


def build_folder(
  videos: Path, out: Path, *, shares: Sequence[float] = (0.8, 0.1, 0.1), labels: Path | None = None
) -> Path:
  """Writes a manifest of the videos of a folder to `out`; prints what it holds.

  Raises:
    InputError: as `folder.scan_folder`.
  """
  with progress(f"look into {videos}") as update:
    scan = folder.scan_folder(videos, shares=shares, labels=labels, update=update)
  out.parent.mkdir(parents=True, exist_ok=True)  # paths relative to it are looked for
  manifest.save_manifest(out, scan.videos)
  _print_folder(scan)
  print(f"The manifest: {out}")
  return out


def _builders(name: str, manual_dir: Path) -> list[tuple[type[AnnotationBuilder], str | None]]:
  if name == "tvsum":
    return [(Tvsum, None)]
  if name == "summe":
    return [(Summe, None)]
  if name != "eccv16":
    raise InputError(f"{name!r} is not a data set; give one of {', '.join(NAMES)}")
  found = [config for config in eccv16.NAMES if eccv16.find_file(manual_dir, config) is not None]
  if not found:
    raise InputError(
      f"{manual_dir}: holds no eccv16_dataset_*.h5; {Eccv16.MANUAL_DOWNLOAD_INSTRUCTIONS}"
    )
  return [(Eccv16, config) for config in found]


def _print_dataset(path: Path, is_new: bool) -> None:
  rows = [_facts(example) for _, example in stored.read_examples(path)]
  table = _table("", "")
  table.add_row("videos", str(len(rows)))
  table.add_row("annotators of a video", _range([row["annotators"] for row in rows]))
  table.add_row("hours", _hours(row["length_s"] for row in rows))
  for part in _PARTS:
    table.add_row(part, _share([row[part] for row in rows]))
  rich.console.Console().print(table)
  print("Built." if is_new else "It was there already; delete the folder to build it again.")
  print(f"As a manifest: {path}")


def _facts(example: Mapping[str, Any]) -> dict[str, Any]:
  return {
    "annotators": len(example["user_anno" if "user_anno" in example else "user_summary"]),
    "length_s": float(example["length_s"]),
    "titles": bool(example["title"]),
    "seconds": bool(example["length_s"]),
    "video files": bool(example["media"]),
    "KTS segments": len(example.get("change_points", ())) > 0,
    "frame features": len(example.get("features", ())) > 0,
  }


def _print_folder(scan: folder.Scan) -> None:
  table = _table("", "videos", "hours", "labels", "transcripts", "sounds")
  for split in folder.SPLITS:
    videos = [video for video in scan.videos if video.split == split]
    counts = (
      sum(getattr(video, part) is not None for video in videos)
      for part in ("labels", "transcript", "sounds")
    )
    hours = _hours(video.duration_s for video in videos)
    table.add_row(split, str(len(videos)), hours, *map(str, counts))
  rich.console.Console().print(table)
  for name, reason in scan.broken[:_SHOWN]:
    print(f"left out: {name}: {reason}")
  if len(scan.broken) > _SHOWN:
    print(f"left out: {len(scan.broken) - _SHOWN} more that cannot be used")
  if scan.num_skipped:
    print(f"other files, neither videos nor words beside one: {scan.num_skipped}")


def _table(*columns: str) -> rich.table.Table:
  table = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_header=any(columns))
  for index, name in enumerate(columns):
    table.add_column(name, justify="right" if index else "left")
  return table


def _range(values: Sequence[int]) -> str:
  low, high = min(values), max(values)
  return str(low) if low == high else f"{low} to {high}"


def _share(has: Sequence[bool]) -> str:
  if len(set(has)) == 1:
    return "all" if has[0] else "none"
  return f"{sum(has)} of {len(has)}"


def _hours(lengths_s: Iterable[float]) -> str:
  return f"{sum(lengths_s) / 3600:.2f}"
