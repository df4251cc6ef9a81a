"""Picture and sound of the fake corpus: what is seen and heard, drawn shot by shot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

SHOT_S = 2.0
SAMPLE_RATE = 16_000

# The picture.
_COOL_RGB = ((40, 70, 190), (30, 140, 150), (50, 130, 70), (110, 115, 130), (95, 70, 170))
_WARM_RGB = ((235, 40, 30), (245, 120, 20), (250, 190, 30))
_LEAST_SEEN = 0.12  # below this there is no warm thing

# The sound, in dBFS.
_HUM_DB = -44.0
_CROWD_DB = (-56.0, -12.0)


def draw_scenes(
  rng: np.random.Generator,
  seen_N: np.ndarray,
  scene_N: np.ndarray,
  size: tuple[int, int],
  fps: int,
) -> Iterator[np.ndarray]:
  """Draws shots of SHOT_S seconds, with a cut and another background where the scene changes.

  Args:
    rng: all that varies comes from it.
    seen_N: f64[N shots], 0..1: how large a warm-coloured thing moves in the shot.
    scene_N: i64[N shots], ascending from 0: the scene a shot belongs to.
    size: (height, width) in pixels.
    fps: frames a second.

  Yields:
    u8[frames, height, width, 3], RGB, one for each scene.
  """
  frames_per_shot = round(SHOT_S * fps)
  height = size[0]
  for scene in range(scene_N[-1] + 1):
    seen_shots = seen_N[scene_N == scene]
    frames = _draw_background(rng, len(seen_shots) * frames_per_shot, size, fps)
    for _ in range(rng.integers(1, 4)):
      _draw_thing(rng, frames, _COOL_RGB, height * rng.uniform(0.06, 0.2), fps)
    for index, seen in enumerate(seen_shots):
      if seen > _LEAST_SEEN:
        shot = frames[index * frames_per_shot : (index + 1) * frames_per_shot]
        _draw_thing(rng, shot, _WARM_RGB, height * 0.4 * seen**0.7, fps)
    yield frames


def _draw_background(
  rng: np.random.Generator, num_frames: int, size: tuple[int, int], fps: int
) -> np.ndarray:
  """A cool, blotchy wall that the camera pans along."""
  cell = int(rng.integers(4, 17))
  pan_2 = rng.uniform(-10, 10, 2) / fps  # pixels a frame, down and right
  offset_F2 = np.round(np.abs(pan_2) * np.arange(num_frames)[:, None]).astype(int)
  rows, columns = -(-(np.array(size) + offset_F2[-1]) // cell)
  blotches = rng.uniform(0.35, 1.0, (rows, columns, 1))
  wall = (blotches * rng.choice(_COOL_RGB)).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
  step_y, step_x = np.where(pan_2 > 0, 1, -1)
  wall = wall[::step_y, ::step_x]
  return np.stack([wall[y : y + size[0], x : x + size[1]] for y, x in offset_F2])


def _draw_thing(
  rng: np.random.Generator,
  frames: np.ndarray,
  colours: Sequence[tuple[int, int, int]],
  radius: float,
  fps: int,
) -> None:
  """Draws, onto the frames, a disc, square or diamond that moves and stays inside the picture."""
  num_frames, height, width = frames.shape[:3]
  centre_y = _bounce(rng, num_frames, radius, height - radius, fps)
  centre_x = _bounce(rng, num_frames, radius, width - radius, fps)
  away_y = np.abs(np.arange(height) - centre_y[:, None]).astype(np.float32)[:, :, None]
  away_x = np.abs(np.arange(width) - centre_x[:, None]).astype(np.float32)[:, None, :]
  distance = (np.maximum, np.hypot, np.add)[rng.integers(3)](away_y, away_x)
  frames[distance < radius] = rng.choice(colours)


def _bounce(
  rng: np.random.Generator, num_frames: int, low: float, high: float, fps: int
) -> np.ndarray:
  """A coordinate that moves at 10 to 40 pixels a second and turns back at the bounds."""
  room = max(high - low, 1e-6)
  path = rng.uniform(0, 2 * room) + rng.uniform(10, 40) / fps * np.arange(num_frames)
  return low + room - np.abs(path % (2 * room) - room)


def play_scenes(
  rng: np.random.Generator, heard_N: np.ndarray, scene_N: np.ndarray
) -> Iterator[np.ndarray]:
  """Plays a hum, and over it a crowd, as loud as `heard_N` says.

  Args:
    rng: all that varies comes from it.
    heard_N: f64[N shots], 0..1: from a crowd far below the hum to one far above it.
    scene_N: i64[N shots], ascending from 0: the scene a shot belongs to.

  Yields:
    f32[samples], mono at SAMPLE_RATE, one for each scene.
  """
  samples_per_shot = round(SHOT_S * SAMPLE_RATE)
  num_samples = samples_per_shot * len(heard_N)
  time_s = np.arange(num_samples) / SAMPLE_RATE
  pitch = rng.uniform(180, 320)
  hum = np.sin(2 * np.pi * pitch * time_s) + 0.4 * np.sin(4 * np.pi * pitch * time_s)
  crowd_db = np.interp(heard_N, (0, 1), _CROWD_DB)
  # The crowd swells and sinks within 20 ms at a border, for a click is heard as noise.
  crowd = np.repeat(10 ** (crowd_db / 20), samples_per_shot)
  crowd = np.convolve(np.pad(crowd, 160, "edge"), np.ones(321) / 321, "valid")
  crowd *= 1 + 0.3 * np.sin(2 * np.pi * rng.uniform(2, 5) * time_s + rng.uniform(0, 6))
  sound = 10 ** (_HUM_DB / 20) * hum + crowd * _murmur(rng, num_samples)
  sound = np.clip(sound, -1, 1).astype(np.float32)
  last_of_scene = np.flatnonzero(np.diff(scene_N)) + 1
  yield from np.split(sound, last_of_scene * samples_per_shot)


def _murmur(rng: np.random.Generator, num_samples: int) -> np.ndarray:
  """Noise of unit power from 200 Hz up, falling by 3 dB an octave above 500 Hz."""
  spectrum = np.fft.rfft(rng.standard_normal(num_samples))
  hertz = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)
  noise = np.fft.irfft(spectrum * (hertz > 200) / np.sqrt(np.maximum(hertz, 500)), num_samples)
  return noise / np.std(noise)
