import av
import numpy as np
import pytest
from media_files import write_media
from scipy.signal import lfilter

from vsumjax.media import audio, segments
from vsumjax.types import InputError

RATE = audio.SAMPLE_RATE


def tone(seconds, amplitude, hertz=1000, rate=RATE):
  return amplitude * np.sin(2 * np.pi * hertz * np.arange(seconds * rate) / rate, dtype=np.float32)


def noise(seconds, amplitude):
  return amplitude * np.random.default_rng(0).standard_normal(seconds * RATE).astype(np.float32)


def syllables(seconds, amplitude):
  """A buzz of many overtones and some breath, four times a second for half of the time."""
  time_s = np.arange(seconds * RATE) / RATE
  buzz = sum(np.sin(2 * np.pi * 140 * k * time_s) / k for k in range(1, 22))
  breath = 0.2 * np.random.default_rng(1).standard_normal(len(time_s))
  return (amplitude * (buzz + breath) * (time_s % 0.25 < 0.125)).astype(np.float32)


def chord(seconds, amplitude):
  """Three sines that are struck twice a second and die away."""
  time_s = np.arange(seconds * RATE) / RATE
  struck = np.exp(-6 * (time_s % 0.5))
  sines = sum(np.sin(2 * np.pi * hertz * time_s) for hertz in (220.0, 277.2, 329.6))
  return (amplitude / 3 * struck * sines).astype(np.float32)


def talk(seconds, amplitude, pitch=140):
  """Vowels and hisses by turns, four syllables a second."""
  rng = np.random.default_rng(2)
  time_s = np.arange(seconds * RATE) / RATE
  turns = np.cumsum(pitch * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * time_s))) / RATE
  pulses = np.diff(np.floor(turns), prepend=0)
  formants = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
  vowel_of = rng.integers(0, len(formants), 4 * seconds)[(time_s * 4).astype(int)]
  place = time_s * 4 % 1
  voiced = np.sin(np.pi * np.clip(place / 0.7, 0, 1))
  sound = np.zeros_like(time_s)
  for index, vowel in enumerate(formants):
    shaped = pulses
    for hertz in vowel:
      radius = np.exp(-np.pi * 90 / RATE)
      shaped = lfilter(
        [1 - radius], [1, -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius**2], shaped
      )
    sound += voiced * shaped / np.std(shaped) * (vowel_of == index)
  hiss = np.diff(rng.standard_normal(len(time_s)), prepend=0) * (place > 0.75)
  return (amplitude / 5 * (sound + 0.15 * hiss)).astype(np.float32)


def clap(seconds, amplitude, at_s):
  """Faint noise with one burst of 100 ms."""
  rng = np.random.default_rng(3)
  sound = 0.002 * rng.standard_normal(seconds * RATE)
  start, length = round(at_s * RATE), RATE // 10
  burst = np.exp(-np.arange(length) / 200) * rng.standard_normal(length)
  sound[start : start + length] += amplitude * burst
  return sound.astype(np.float32)


def heard(path):
  return np.concatenate([np.zeros(0, np.float32), *audio.iter_audio(path)])


def test_samples_are_mono_at_the_sample_rate_and_in_time(tmp_path):
  # A beep from 2 s to 3 s at 44.1 kHz.
  samples = np.concatenate(
    [np.zeros(2 * 44_100, np.float32), tone(1, 0.5, rate=44_100), np.zeros(44_100, np.float32)]
  )
  chunks = list(audio.iter_audio(write_media(tmp_path / "a.mp4", None, samples, 44_100)))
  assert all(chunk.dtype == np.float32 and chunk.ndim == 1 for chunk in chunks)
  assert {len(chunk) for chunk in chunks[:-1]} == {RATE}
  signal = np.concatenate(chunks)
  assert len(signal) == pytest.approx(4 * RATE, abs=RATE // 10)
  loud = np.flatnonzero(np.abs(signal) > 0.25)
  assert loud[[0, -1]] / RATE == pytest.approx([2, 3], abs=0.02)
  assert np.sqrt(np.mean(signal[int(2.2 * RATE) : int(2.8 * RATE)] ** 2)) == pytest.approx(
    0.5 / np.sqrt(2), rel=0.03
  )


def test_late_start_and_gaps_are_silence_and_overlaps_are_dropped():
  ones = np.ones(1600, np.float32)
  timed = [(0.5, ones), (None, ones), (2.0, ones), (2.05, 2 * ones)]
  signal = np.concatenate(list(audio._placed(timed)))
  expected = np.zeros(int(2.15 * RATE), np.float32)
  expected[8000:11_200] = 1
  expected[32_000:33_600] = 1
  expected[33_600:34_400] = 2
  np.testing.assert_array_equal(signal, expected)
  early = np.concatenate(list(audio._placed([(-0.05, np.arange(1600))])))
  np.testing.assert_array_equal(early, np.arange(800, 1600))


def test_times_that_are_a_little_off_leave_no_holes():
  ones = np.ones(1600, np.float32)
  signal = np.concatenate(list(audio._placed([(0.004, ones), (0.105, ones), (0.197, ones)])))
  np.testing.assert_array_equal(signal, np.ones(4800))


def test_long_gap_is_filled_in_chunks():
  pieces = list(audio._placed([(100.0, np.ones(10, np.float32))]))
  assert max(len(piece) for piece in pieces) <= RATE
  assert sum(len(piece) for piece in pieces) == 100 * RATE + 10


def test_sound_that_starts_after_the_picture_keeps_its_time(tmp_path):
  path = tmp_path / "late.mp4"
  with av.open(str(path), "w") as container:
    picture = container.add_stream("libx264", rate=10)
    picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
    sound = container.add_stream("aac", rate=RATE, layout="mono")
    for _ in range(40):
      blank = np.zeros((48, 64, 3), np.uint8)
      container.mux(picture.encode(av.VideoFrame.from_ndarray(blank, format="rgb24")))
    container.mux(picture.encode(None))
    frame = av.AudioFrame.from_ndarray(tone(2, 0.5)[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = RATE, 2 * RATE
    container.mux(sound.encode(frame))
    container.mux(sound.encode(None))
  loud = np.flatnonzero(np.abs(heard(path)) > 0.25)
  assert loud[[0, -1]] / RATE == pytest.approx([2, 4], abs=0.08)


def test_spans_are_described_by_loudness_and_kind(tmp_path):
  seconds = 3
  samples = np.concatenate(
    [
      tone(seconds, 0.05),
      np.zeros(seconds * RATE, np.float32),
      noise(seconds, 0.1),
      tone(seconds, 0.04),
      noise(seconds, 0.005),
      syllables(seconds, 0.05),
    ]
  )
  path = write_media(tmp_path / "a.mp4", None, samples)
  spans = segments.cut(6 * seconds, seconds) + np.array([0.1, -0.1])  # AAC smears the borders
  assert audio.describe_spans(path, spans) == (
    "tone",
    "silence",
    "loud noise",
    "tone",
    "very quiet noise",
    "speech-like sound",
  )


def told_of(folder, *sounds, segment_s=2.0):
  """What is told of sounds one after the other, stored without loss."""
  samples = np.concatenate(sounds)
  path = write_wav(folder / "sound.wav", samples)
  return audio.describe_spans(path, segments.cut(len(samples) / RATE, segment_s))


def write_wav(path, samples):
  with av.open(str(path), "w") as container:
    stream = container.add_stream("pcm_f32le", rate=RATE, layout="mono")
    frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "flt", "mono")
    frame.sample_rate = RATE
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


@pytest.mark.parametrize(
  ("sound", "kind"),
  [
    (np.zeros(4 * RATE, np.float32), "silence"),
    (noise(4, 0.1), "noise"),
    (tone(4, 0.1), "tone"),
    (chord(4, 0.2), "music-like sound"),
    (talk(4, 0.3), "speech-like sound"),
    (talk(4, 0.3, pitch=220), "speech-like sound"),
    (talk(4, 0.3) + noise(4, 0.002), "speech-like sound"),
    (syllables(4, 0.05), "speech-like sound"),
    (0.3 * talk(4, 0.3) + noise(4, 0.1), "noise"),
  ],
)
def test_kinds_of_sound_are_told_apart(tmp_path, sound, kind):
  assert told_of(tmp_path, sound) == (kind, kind)


def test_a_clap_is_sudden_and_what_only_is_loud_is_not(tmp_path):
  told = told_of(tmp_path, talk(8, 0.3), clap(2, 0.9, 0.5), noise(2, 0.5), noise(2, 0.5))
  assert told == (
    *["speech-like sound"] * 4,
    "sudden loud noise",
    "sudden loud noise",
    "very loud noise",
  )
  swelling = noise(8, 0.5) * np.geomspace(1e-3, 1, 8 * RATE, dtype=np.float32)
  assert not any("sudden" in phrase for phrase in told_of(tmp_path, swelling))
  assert told_of(tmp_path, noise(4, 0.4)) == ("noise", "noise")  # nothing was before


def test_speech_after_a_pause_is_not_sudden(tmp_path):
  pause = np.zeros(2 * RATE, np.float32)
  told = told_of(tmp_path, talk(2, 0.3), pause, talk(4, 0.3))
  assert told == ("speech-like sound", "silence", "speech-like sound", "speech-like sound")


def test_a_long_span_is_told_in_pieces_and_nothing_twice(tmp_path):
  sounds = (talk(4, 0.3), clap(2, 0.9, 0.5), talk(4, 0.3))
  assert told_of(tmp_path, *sounds, segment_s=10.0) == (
    "speech-like sound, then sudden loud noise",
  )
  assert told_of(tmp_path, talk(6, 0.3), noise(2, 0.5), segment_s=8.0) == (
    "speech-like sound, then sudden loud noise",
  )
  (told,) = audio.describe_spans(tmp_path / "sound.wav", np.array([[0.0, 2.9]]))
  assert told == "speech-like sound"


def test_everything_said_is_in_the_list_of_phrases(tmp_path):
  rng = np.random.default_rng(4)
  makers = (noise, tone, chord, talk, syllables, lambda seconds, a: clap(seconds, a, 0.5))
  sounds = [rng.choice(makers)(2, rng.choice([1e-4, 0.01, 0.1, 0.9])) for _ in range(30)]
  told = told_of(tmp_path, *sounds, segment_s=6.0)
  phrases = {phrase for text in told for phrase in text.split(", then ")}
  assert len(phrases) > 8
  assert phrases <= set(audio.PHRASES)
  assert len(set(audio.PHRASES)) == len(audio.PHRASES)


def test_what_is_told_does_not_depend_on_how_the_signal_is_cut():
  sound = np.concatenate([talk(4, 0.1), clap(2, 0.9, 0.5), chord(3, 0.2)])
  spans = np.array([[0.5, 2.0], [2.0, 3.9], [4.0, 6.0], [6.0, 20.0]])
  told = {
    tuple(audio._describe_pieces(np.split(sound, range(size, len(sound), size)), spans))
    for size in (100, 512, 16_000, len(sound))
  }
  assert len(told) == 1


def test_spans_may_have_gaps_between_them(tmp_path):
  path = write_wav(tmp_path / "a.wav", np.concatenate([tone(2, 0.1), noise(2, 0.1), tone(2, 0.1)]))
  assert audio.describe_spans(path, np.array([[0.0, 2.0], [4.0, 6.0]])) == ("tone", "tone")
  assert audio.describe_spans(path, np.zeros((0, 2))) == ()


def test_samples_that_are_no_numbers_are_silent(tmp_path):
  sound = noise(2, 0.1)
  sound[RATE // 2 : RATE] = np.nan
  sound[RATE + 5] = np.inf
  path = write_wav(tmp_path / "a.wav", sound)
  assert np.isfinite(heard(path)).all()
  assert audio.describe_spans(path, np.array([[0.0, 2.0]])) == ("noise",)


def test_descriptions_do_not_depend_on_the_overall_volume(tmp_path):
  samples = np.concatenate([noise(2, 0.02), noise(2, 0.1), tone(2, 0.02)])
  spans = segments.cut(6.0, 2.0) + np.array([0.1, -0.1])
  told = {
    audio.describe_spans(write_media(tmp_path / f"{gain}.mp4", None, gain * samples), spans)
    for gain in (0.5, 1, 2)
  }
  assert told == {("noise", "very loud noise", "tone")}


def test_span_after_the_end_is_silent(tmp_path):
  path = write_media(tmp_path / "a.mp4", None, noise(2, 0.1))
  assert audio.describe_spans(path, np.array([[0.0, 2.0], [5.0, 7.0]])) == ("noise", "silence")


def test_file_without_sound(tmp_path):
  path = write_media(tmp_path / "mute.mp4", {0: 10, 100: 20, 200: 30})
  assert list(audio.iter_audio(path)) == []
  assert audio.describe_spans(path, np.array([[0, 1], [1, 2.0]])) == (audio.NO_SOUND,) * 2


@pytest.mark.parametrize("kind", ["text", "empty", "missing"])
def test_broken_file_is_named_in_one_line(kind, tmp_path, capfd):
  path = tmp_path / "broken.mp4"
  if kind != "missing":
    path.write_text("This is no sound.\n" * 100 if kind == "text" else "")
  for read in (
    lambda: list(audio.iter_audio(path)),
    lambda: audio.describe_spans(path, np.array([[0.0, 1.0]])),
  ):
    with pytest.raises(InputError) as raised:
      read()
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
  assert capfd.readouterr() == ("", "")


def test_real_clips(clips):
  for name, seconds in (("big_buck_bunny_30s.webm", 30.0), ("nasa_13s.mp4", 13.0)):
    assert len(heard(clips / name)) / RATE == pytest.approx(seconds, abs=0.1)
    told = audio.describe_spans(clips / name, segments.cut(seconds, 2.0))
    assert set(told) <= set(audio.PHRASES) - {audio.NO_SOUND}
    kind = "music" if "bunny" in name else "speech"  # an orchestra, a narrator
    assert sum(kind in phrase for phrase in told) > 0.6 * len(told)
  spans = segments.cut(10.0, 2.0)
  told = audio.describe_spans(clips / "bikes_10s_no_audio.mp4", spans)
  assert told == (audio.NO_SOUND,) * 5


def test_damaged_sound_is_passed_over(tmp_path, capfd):
  signal = tone(10, 0.4)
  data = write_media(tmp_path / "whole.mkv", samples=signal).read_bytes()
  path = tmp_path / "damaged.mkv"
  third = len(data) // 3
  num_bad = 0
  for seed in range(6):
    path.write_bytes(data[:third] + np.random.default_rng(seed).bytes(300) + data[third + 300 :])
    num_bad += _num_bad_packets(path)
    assert sum(map(len, audio.iter_audio(path))) == pytest.approx(len(signal), abs=RATE / 5)
  assert num_bad > 1
  assert capfd.readouterr() == ("", "")


def _num_bad_packets(path):
  count = 0
  with av.open(str(path)) as container:
    for packet in container.demux(container.streams.audio[0]):
      try:
        packet.decode()
      except av.FFmpegError:
        count += 1
  return count
