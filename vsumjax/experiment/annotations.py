"""The videos of a benchmark: out of a file of the field, or out of data sets that were built."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.benchmark_files import load_benchmark
from vsumjax.types import InputError

NAMES = ("tvsum", "summe")
_STEP = 15  # frames between picks, where the usual files say nothing else


def open_benchmark(
  name: str,
  *,
  segments: str | None = None,
  annotations: Path | None = None,
  data_dir: Path = Path("data"),
) -> tuple[AnnotatedVideo, ...]:
  """The videos of a benchmark.

  Args:
    name: path of an HDF5 file (see `load_benchmark`), or "tvsum" or "summe" for what
      `vsumjax build-dataset` built: the authors' own annotations, and, where `eccv16/NAME` was
      built too, the segments and summaries of its videos.
    segments: key of the segments in an HDF5 file; by default `change_points`, if it has any.
    annotations: another HDF5 file, for what the first lacks.
    data_dir: TFDS's folder of data sets.

  Raises:
    InputError: no such file or data set, or a broken one.
  """
  if name in NAMES:
    if segments is not None or annotations:
      raise InputError(f"--segments and --annotations go with an HDF5 file, not with {name!r}")
    return _built(name, data_dir)
  if not Path(name).is_file():
    known = " or ".join(NAMES)
    raise InputError(f"{name}: is not a file; --benchmark takes an HDF5 file, or {known}")
  return load_benchmark(name, segments=segments, annotations=annotations)


def _built(name: str, data_dir: Path) -> tuple[AnnotatedVideo, ...]:
  folder = _newest(data_dir / name)
  if folder is None:
    raise InputError(
      f"{data_dir / name}: is not built; run `vsumjax build-dataset {name} --manual-dir DIR"
      f" --data-dir {data_dir}`, or give an HDF5 file by --benchmark FILE"
    )
  from vsumjax.data.builders import stored  # TFDS takes long to import

  videos = tuple(
    _from_example(f"video_{number}", example)
    for number, (_, example) in enumerate(stored.read_examples(folder), start=1)
  )
  usual = _newest(data_dir / "eccv16" / name)
  if usual is None:
    return videos
  return _with_segments(videos, [example for _, example in stored.read_examples(usual)])


def _newest(folder: Path) -> Path | None:
  versions = [path.parent for path in folder.glob("*/dataset_info.json")]
  key = [tuple(map(int, path.name.split("."))) for path in versions]
  return max(zip(key, versions, strict=True))[1] if versions else None


def _from_example(video_id: str, example: Mapping[str, Any]) -> AnnotatedVideo:
  num_frames = int(example["num_frames"])
  picks_P = np.arange(0, num_frames, _STEP)
  levels_AF = example.get("user_anno")
  gt_score_P = np.asarray(example["gt_score"], np.float64)[picks_P]
  summary_AF = example.get("user_summary")
  return AnnotatedVideo(
    id=video_id,
    num_frames=num_frames,
    picks_P=picks_P,
    fps=float(example["fps"]),
    names=(example["video_id"].decode(),),
    title=example["title"].decode(),
    levels_AF=levels_AF,
    summary_AF=None if summary_AF is None else summary_AF.astype(bool),
    # As the usual files have it: levels 1..5 become 0..1.
    gtscore_P=gt_score_P if levels_AF is None else (gt_score_P - 1) / 4,
    category=example["category"].decode() if "category" in example else "",
  )


def _with_segments(
  videos: Iterable[AnnotatedVideo], usual: Iterable[Mapping[str, Any]]
) -> tuple[AnnotatedVideo, ...]:
  """Segments and summaries of the usual file, whose videos stand in the same order."""
  by_id = {example["key"].decode(): example for example in usual}
  completed = []
  for video in videos:
    example = by_id.get(video.id)
    if example is None or int(example["num_frames"]) != video.num_frames:
      raise InputError(
        f"eccv16: has no {video.id} of {video.num_frames:,} frames, which the authors' files have;"
        " build both from the files of one benchmark"
      )
    segments_K2 = example["change_points"]
    completed.append(
      dataclasses.replace(
        video,
        picks_P=example["picks"].astype(np.int64),
        gtscore_P=example["gtscore"].astype(np.float64) if len(example["gtscore"]) else None,
        summary_AF=example["user_summary"].astype(bool),
        segments_K2=segments_K2.astype(np.int64) if len(segments_K2) else None,
      )
    )
  return tuple(completed)
