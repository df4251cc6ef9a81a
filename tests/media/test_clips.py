"""The real clips: what is read of them agrees with what their packets say."""

import av
import numpy as np
import pytest
from media_files import packet_times

from vsumjax.media import audio, segments, video

CLIPS = ("big_buck_bunny_30s.webm", "nasa_13s.mp4", "bikes_10s_no_audio.mp4")
SIZE = (90, 160)


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_is_read_at_the_time_of_its_packet(clips, name):
  start_s = np.array([start_s for start_s, _ in video.iter_timed_frames(clips / name)])
  truth_s = packet_times(clips / name)
  assert len(start_s) == len(truth_s)
  half_s = 0.5 / video.probe(clips / name).fps
  np.testing.assert_allclose(start_s, truth_s, rtol=0, atol=half_s)
  assert video.probe(clips / name).duration_s == pytest.approx(truth_s[-1] + 2 * half_s, abs=0.2)


@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_those_that_a_plain_decoder_shows(clips, name):
  with av.open(str(clips / name)) as container:
    zero_s = (container.start_time or 0) / av.time_base
    decoded = [
      (frame.time - zero_s, frame.to_ndarray(format="gray").mean())
      for frame in container.decode(video=0)
    ]
  shown_s, grey = np.array(decoded).T
  times_s = np.arange(0.25, shown_s[-1], 1.0)
  expected = grey[np.searchsorted(shown_s, times_s, side="right") - 1]
  frames = np.stack(list(video.iter_frames(clips / name, times_s, SIZE))).astype(float)
  luma = frames @ (0.299, 0.587, 0.114)
  np.testing.assert_allclose(luma.mean(axis=(1, 2)), expected, atol=12)
  assert np.corrcoef(luma.mean(axis=(1, 2)), expected)[0, 1] > 0.99


@pytest.mark.parametrize("name", CLIPS)
def test_frames_from_the_middle_are_those_from_the_start(clips, name):
  times_s = np.random.default_rng(0).uniform(0, video.probe(clips / name).duration_s, 12)
  times_s.sort()
  frames = list(video.iter_frames(clips / name, times_s, SIZE))
  for time_s, frame in zip(times_s, frames, strict=True):
    (alone,) = video.iter_frames(clips / name, [time_s], SIZE)
    np.testing.assert_array_equal(alone, frame)


@pytest.mark.parametrize("name", CLIPS)
def test_sound_is_as_long_as_its_packets(clips, name):
  with av.open(str(clips / name)) as container:
    ends_s = [
      float((packet.pts + packet.duration) * packet.time_base)
      for packet in container.demux()
      if packet.size and packet.stream.type == "audio"
    ]
  read_s = sum(map(len, audio.iter_audio(clips / name))) / audio.SAMPLE_RATE
  assert read_s == pytest.approx(max(ends_s, default=0), abs=0.1)
  spans = segments.cut(video.probe(clips / name).duration_s, 5.0)
  told = audio.describe_spans(clips / name, spans)
  assert len(told) == len(spans)
  assert (audio.NO_SOUND in told) == (not ends_s)
