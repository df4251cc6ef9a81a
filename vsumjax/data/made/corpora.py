"""A small labelled corpus of real media files, made from a seed with nothing downloaded.

Every shot of 2 seconds has three strengths, drawn apart from one another and from its place in the
video: what is seen (how large a warm-coloured thing moves among cool ones), what is heard (how loud
a crowd is above a hum) and what is said (how many words of a sentence are exciting). Their sum is
the shot's importance. Annotators weigh the three by their own taste, use the scale their own way
and err. The corpus goes through the same manifest that users write for their own videos.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import math
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from vsumjax.data import manifest
from vsumjax.data.made import scenes
from vsumjax.data.videos import Labels, Video
from vsumjax.host.files import remove_leftovers, write_atomically
from vsumjax.media import writing
from vsumjax.types import InputError

SHOT_S = scenes.SHOT_S

_RECIPE = 1  # to be raised when the same config would make another corpus
_MAX_WORKERS = 8

# The annotators. Noise puts the leave-one-out ceiling near a Kendall tau of 0.51, between what the
# annotators of TVSum reach and a task too easy to tell models apart; a test holds it there.
_PERSISTENCE = 0.3  # correlation of a strength with that of the shot before
_TASTE_STD = 0.25
_SCALE_STD = 0.2
_OFFSET_STD = 0.3
_NOISE_STD = 0.93
_LEVEL_EDGES = (-1.3, -0.45, 0.45, 1.3)

# What is said: (dull words, exciting words) for each of the four slots of a sentence.
_SENTENCES = (
  "the {} {} the {} {}",
  "now the {} {} that {} {}",
  "and here our {} {} a {} {} {place}",
  "so the {} {} this {} {} {place}",
  "well you see the {} {} one more {} {}",
  "{place} the {} {} his {} {}",
)
_SLOTS = (
  (
    "farmer clerk driver guide painter teacher visitor gardener baker tailor porter keeper",
    "champion striker hero racer legend rescuer acrobat winner captain daredevil fighter rebel",
  ),
  (
    "carries watches cleans counts mends sorts moves holds shows leaves folds paints",
    "smashes conquers breaks launches saves wins grabs storms beats chases destroys celebrates",
  ),
  (
    "plain small grey old usual soft wooden simple spare narrow dusty common",
    "stunning incredible furious golden fearless final wild breathtaking thrilling impossible"
    " fantastic decisive",
  ),
  (
    "basket bucket table window bench ladder carpet shelf drawer corner cupboard blanket",
    "record trophy finale rescue jump explosion comeback title goal victory miracle showdown",
  ),
)
_PLACES = (
  "at the harbour",
  "in the valley",
  "near the station",
  "by the river",
  "on the square",
  "behind the mill",
  "along the road",
  "at the market",
)
_MOMENTS = ("Morning", "An afternoon", "Evening", "A day", "Spring", "Summer", "Autumn", "Winter")


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
  """What corpus to make.

  min_s, max_s: bounds of the length of a video, multiples of SHOT_S.
  height, width: of the picture in pixels, even.
  fps: frames a second.
  """

  seed: int = 0
  num_train: int = 60
  num_validation: int = 8
  num_test: int = 24
  num_annotators: int = 20
  min_s: float = 20.0
  max_s: float = 60.0
  height: int = 96
  width: int = 128
  fps: int = 10

  def __post_init__(self):
    for field in ("seed", "num_train", "num_validation", "num_test"):
      if getattr(self, field) < 0:
        raise InputError(f"CorpusConfig.{field} must be 0 or more, is {getattr(self, field)}")
    for field in ("num_annotators", "fps"):
      if getattr(self, field) < 1:
        raise InputError(f"CorpusConfig.{field} must be 1 or more, is {getattr(self, field)}")
    for field in ("height", "width"):
      if getattr(self, field) < 16 or getattr(self, field) % 2:
        raise InputError(
          f"CorpusConfig.{field} must be even, 16 or more, is {getattr(self, field)}"
        )
    if not SHOT_S <= self.min_s <= self.max_s < math.inf:
      raise InputError(f"CorpusConfig.min_s and max_s must be {SHOT_S} <= min_s <= max_s")
    if not self.num_videos:
      raise InputError("CorpusConfig asks for no video; set num_train above 0")

  @property
  def num_videos(self) -> int:
    return self.num_train + self.num_validation + self.num_test


@dataclasses.dataclass(frozen=True, eq=False)
class VideoPlan:
  """All that is known of a video before it is drawn.

  seed: what its generators are made from, with `CorpusConfig.seed`.
  strength_N3: f64[N shots, 3], what is seen, heard and said, each uniform in 0..1.
  scene_N: i64[N], which scene a shot belongs to; the picture cuts between scenes.
  sentences: what is said in each shot.
  levels_AN: i8[A, N], what the annotators think.
  """

  id: str
  split: str
  title: str
  seed: tuple[int, ...]
  strength_N3: np.ndarray
  scene_N: np.ndarray
  sentences: tuple[str, ...]
  levels_AN: np.ndarray


def make_corpus(
  out_dir: str | os.PathLike[str],
  config: CorpusConfig,
  on_progress: Callable[[int, int], None] | None = None,
) -> pathlib.Path:
  """Makes the corpus, or what is missing of it, in worker processes.

  Args:
    out_dir: made if needed; holds the manifest and a folder of media.
    config: what to make.
    on_progress: called with (videos there, videos in all), at first and after each video.

  Returns:
    The path of the manifest.

  Raises:
    InputError: the folder holds a corpus of another config.
  """
  out_dir = pathlib.Path(out_dir)
  (out_dir / "media").mkdir(parents=True, exist_ok=True)
  _claim(out_dir, config)
  plans = plan_videos(config)
  remove_leftovers(out_dir / "media")
  missing = [plan for plan in plans if not all(file.is_file() for file in _files(out_dir, plan))]
  for num_done in _write_videos(out_dir, config, missing):
    if on_progress is not None:
      on_progress(len(plans) - len(missing) + num_done, len(plans))
  manifest_path = out_dir / "manifest.jsonl"
  if missing or not manifest_path.is_file():
    manifest.save_manifest(manifest_path, [_as_video(out_dir, plan) for plan in plans])
  return manifest_path


def plan_videos(config: CorpusConfig) -> tuple[VideoPlan, ...]:
  """Plans every video. One video's plan does not depend on how many others there are."""
  splits = (
    ("train", config.num_train),
    ("validation", config.num_validation),
    ("test", config.num_test),
  )
  return tuple(
    _plan_video(config, split, (split_index, index))
    for split_index, (split, num_videos) in enumerate(splits)
    for index in range(num_videos)
  )


def _generator(config: CorpusConfig, *key: int) -> np.random.Generator:
  return np.random.Generator(np.random.Philox(np.random.SeedSequence(config.seed, spawn_key=key)))


def _plan_video(config: CorpusConfig, split: str, seed: tuple[int, int]) -> VideoPlan:
  rng = _generator(config, *seed, 0)
  least, most = math.ceil(config.min_s / SHOT_S), math.floor(config.max_s / SHOT_S)
  num_shots = int(rng.integers(least, most, endpoint=True))
  strength_N3 = _draw_strengths(rng, num_shots)
  return VideoPlan(
    id=f"{split}_{seed[1]:03d}",
    split=split,
    title=f"{rng.choice(_MOMENTS)} {rng.choice(_PLACES)}",
    seed=seed,
    strength_N3=strength_N3,
    scene_N=np.repeat(np.arange(num_shots), rng.integers(1, 4, num_shots, endpoint=True))[
      :num_shots
    ],
    sentences=tuple(_say(rng, said) for said in strength_N3[:, 2]),
    levels_AN=_annotate(rng, strength_N3, config.num_annotators),
  )


def _draw_strengths(rng: np.random.Generator, num_shots: int) -> np.ndarray:
  """f64[N, 3], uniform in 0..1 at every shot, each column a chain with a little memory."""
  normal_N3 = rng.standard_normal((num_shots, 3))
  for shot in range(1, num_shots):
    fresh = math.sqrt(1 - _PERSISTENCE**2) * normal_N3[shot]
    normal_N3[shot] = _PERSISTENCE * normal_N3[shot - 1] + fresh
  return 0.5 + 0.5 * np.vectorize(math.erf)(normal_N3 / math.sqrt(2))


def _say(rng: np.random.Generator, strength: float) -> str:
  """A sentence, `strength` of whose four content words are exciting."""
  is_exciting = rng.permutation(np.arange(len(_SLOTS)) < round(strength * len(_SLOTS)))
  words = [
    rng.choice(slot[int(exciting)].split())
    for slot, exciting in zip(_SLOTS, is_exciting, strict=True)
  ]
  return str(rng.choice(_SENTENCES)).format(*words, place=rng.choice(_PLACES))


def _annotate(rng: np.random.Generator, strength_N3: np.ndarray, num_annotators: int) -> np.ndarray:
  """i8[A, N], levels 1..5 by annotators of different taste, scale and care."""
  standard_N3 = (strength_N3 - 0.5) * math.sqrt(12)  # unit variance
  taste_A3 = 1 + _TASTE_STD * rng.standard_normal((num_annotators, 3))
  scale_A1 = np.exp(_SCALE_STD * rng.standard_normal((num_annotators, 1)))
  offset_A1 = _OFFSET_STD * rng.standard_normal((num_annotators, 1))
  noise_AN = _NOISE_STD * rng.standard_normal((num_annotators, len(strength_N3)))
  opinion_AN = scale_A1 * (taste_A3 @ standard_N3.T) / math.sqrt(3) + offset_A1 + noise_AN
  opinion_AN /= math.sqrt(1 + _NOISE_STD**2)
  return (1 + np.searchsorted(_LEVEL_EDGES, opinion_AN)).astype(np.int8)


def _claim(out_dir: pathlib.Path, config: CorpusConfig) -> None:
  """Marks the folder as this config's, or refuses one that is marked as another's."""
  marker = out_dir / "corpus.json"
  asked = {"recipe": _RECIPE} | dataclasses.asdict(config)
  if not marker.is_file():
    write_atomically(marker, json.dumps(asked, indent=2) + "\n")
    return
  try:
    there = dict(json.loads(marker.read_text()))
  except ValueError:
    raise InputError(f"{marker}: is damaged; delete the folder or give another one") from None
  for field in asked:
    if there.get(field) != asked[field]:
      raise InputError(
        f"{marker}: the folder holds a corpus with {field} {there.get(field)}, asked for is"
        f" {asked[field]}; delete the folder or give another one"
      )


def _files(out_dir: pathlib.Path, plan: VideoPlan) -> tuple[pathlib.Path, pathlib.Path]:
  media = out_dir / "media" / f"{plan.id}.mp4"
  return media, media.with_suffix(".srt")


def _as_video(out_dir: pathlib.Path, plan: VideoPlan) -> Video:
  media, transcript = _files(out_dir, plan)
  labels = Labels(SHOT_S, plan.levels_AN)
  return Video(plan.id, media, plan.title, plan.split, transcript, labels)


def _write_videos(
  out_dir: pathlib.Path, config: CorpusConfig, plans: list[VideoPlan]
) -> Iterator[int]:
  """Writes the videos and yields how many are written, 0 first."""
  yield 0
  if not plans:
    return
  num_workers = min(os.cpu_count() or 1, len(plans), _MAX_WORKERS)
  # Spawned, because forking a process that runs JAX's threads can hang.
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(num_workers, context) as pool:
    futures = [pool.submit(_write_video, out_dir, config, plan) for plan in plans]
    try:
      for num_done, future in enumerate(concurrent.futures.as_completed(futures), start=1):
        future.result()
        yield num_done
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      raise


def _write_video(out_dir: pathlib.Path, config: CorpusConfig, plan: VideoPlan) -> None:
  media, transcript = _files(out_dir, plan)
  write_atomically(transcript, _to_srt(plan.sentences))
  writing.write_clip(
    media, _scenes(config, plan), (config.height, config.width), config.fps, scenes.SAMPLE_RATE
  )


def _scenes(config: CorpusConfig, plan: VideoPlan) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Picture u8[frames, height, width, 3] and sound f32[samples] of each scene."""
  seen_N, heard_N = plan.strength_N3[:, 0], plan.strength_N3[:, 1]
  size = (config.height, config.width)
  picture_rng, sound_rng = _generator(config, *plan.seed, 1), _generator(config, *plan.seed, 2)
  return zip(
    scenes.draw_scenes(picture_rng, seen_N, plan.scene_N, size, config.fps),
    scenes.play_scenes(sound_rng, heard_N, plan.scene_N),
    strict=True,
  )


def _to_srt(sentences: tuple[str, ...]) -> str:
  cues = []
  for index, sentence in enumerate(sentences):
    # A breath at either end keeps every word within its shot.
    times = (_srt_time(index * SHOT_S + 0.1), _srt_time((index + 1) * SHOT_S - 0.1))
    cues.append(f"{index + 1}\n{times[0]} --> {times[1]}\n{sentence}\n")
  return "\n".join(cues)


def _srt_time(time_s: float) -> str:
  seconds, milliseconds = divmod(round(time_s * 1000), 1000)
  return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},{milliseconds:03d}"
