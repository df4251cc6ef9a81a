"""Three hours take no more memory than three minutes."""

import fractions
import pathlib
import subprocess
import sys

import av
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
SAMPLE_RATE = 8000
GROUP_S = 10  # of sound in one frame

READ = """
import resource, sys
import numpy as np
from vsumjax.media import audio, segments, video

path, duration_s = sys.argv[1], float(sys.argv[2])
num_frames = sum(1 for _ in video.iter_frames(path, np.arange(0, duration_s, 5.0), (224, 224)))
last = list(video.iter_frames(path, [duration_s - 5], (224, 224)))
num_samples = sum(map(len, audio.iter_audio(path)))
told = audio.describe_spans(path, segments.cut(duration_s, 2.0))
print(num_frames, num_samples, len(told), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_long(path, duration_s):
  """One small grey picture a second, and noise."""
  rng = np.random.default_rng(0)
  hiss = rng.integers(-3000, 3000, (1, GROUP_S * SAMPLE_RATE)).astype(np.int16)
  with av.open(str(path), "w") as container:
    picture = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
    picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
    sound = container.add_stream("pcm_u8", rate=SAMPLE_RATE, layout="mono")
    grey = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), format="rgb24")
    grey = grey.reformat(format="yuv420p")
    for second in range(duration_s):
      grey.pts, grey.time_base = second, fractions.Fraction(1)
      container.mux(picture.encode(grey))
      if second % GROUP_S == 0:
        samples = (hiss // 256 + 128).astype(np.uint8)
        frame = av.AudioFrame.from_ndarray(samples, "u8", "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, second * SAMPLE_RATE
        container.mux(sound.encode(frame))
    container.mux(picture.encode(None))
    container.mux(sound.encode(None))


@pytest.mark.long
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
  peak_kib = {}
  for duration_s in (180, 3 * 3600):
    path = tmp_path / f"{duration_s}.mkv"
    write_long(path, duration_s)
    done = subprocess.run(
      [sys.executable, "-c", READ, path, str(duration_s)],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=True,
    )
    num_frames, num_samples, num_told, peak_kib[duration_s] = map(int, done.stdout.split())
    assert num_frames == duration_s / 5
    assert num_samples == pytest.approx(duration_s * 16_000, rel=0.001)
    assert num_told == duration_s / 2
  assert peak_kib[3 * 3600] < peak_kib[180] + 16 * 1024
