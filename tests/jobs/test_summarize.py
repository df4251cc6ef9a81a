"""`vsumjax summarize`: the files of a summary, or none if the video cannot be read."""

import json
import re
import shutil

import av
import media_files
import numpy as np
import pytest

from vsumjax.data import manifest
from vsumjax.jobs.summarize import summarize
from vsumjax.media import video
from vsumjax.types import InputError

FILES = {"summary.mp4", "scores.json", "storyboard.png", "timeline.png", "index.html"}


@pytest.fixture(scope="module")
def item(corpus):
  """The longest video of the corpus."""
  videos = manifest.load_manifest(corpus / "manifest.jsonl").videos
  return max(videos, key=lambda v: video.probe(v.media).duration_s)


def _silent_copy(media, path):
  """The picture without the sound, in another container."""
  with av.open(str(media)) as source, av.open(str(path), "w") as target:
    stream = source.streams.video[0]
    copy = target.add_stream_from_template(stream)
    for packet in source.demux(stream):
      if packet.dts is not None:
        packet.stream = copy
        target.mux(packet)
  return path


@pytest.fixture(scope="module")
def summary(item, trained, tmp_path_factory):
  out = tmp_path_factory.mktemp("summary")
  return summarize(item.media, trained, out, share=0.4, title="A day out"), out


def test_all_files_are_there_and_agree(summary, item):
  result, out = summary
  assert {path.name for path in out.iterdir()} == FILES
  scores = json.loads((out / "scores.json").read_text())
  chosen = [s for s in scores["segments"] if s["selected"]]
  assert scores["title"] == "A day out"
  assert scores["media"] == item.media.name
  assert 0 < len(chosen) < len(scores["segments"])
  assert scores["summary_s"] == pytest.approx(sum(s["end_s"] - s["start_s"] for s in chosen))
  duration_s = video.probe(item.media).duration_s
  assert scores["duration_s"] == pytest.approx(duration_s)
  assert 0.4 * duration_s - 2 <= scores["summary_s"] <= 0.4 * duration_s
  info = video.probe(out / "summary.mp4")
  assert info.has_audio
  assert info.duration_s == pytest.approx(scores["summary_s"], abs=0.1)
  page = (out / "index.html").read_text()
  assert "A day out" in page
  assert (out / "storyboard.png").read_bytes().startswith(b"\x89PNG")
  np.testing.assert_array_equal(result.selected_N, [s["selected"] for s in scores["segments"]])


def test_the_transcript_beside_the_video_is_read(summary):
  assert any(summary[0].said)
  assert len(set(summary[0].heard)) > 1


def test_a_video_without_sound_or_words(item, trained, tmp_path):
  media = _silent_copy(item.media, tmp_path / "my_silent_film.mkv")
  result = summarize(media, trained, tmp_path / "out", share=0.3)
  assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
  assert result.title == "my silent film"
  assert set(result.heard) == {"no sound"}
  assert not any(result.said)
  info = video.probe(tmp_path / "out" / "summary.mp4")
  assert not info.has_audio
  assert info.duration_s == pytest.approx(result.length_s, abs=0.3)


def test_the_words_of_another_transcript_reach_the_model(summary, item, trained, tmp_path):
  words = tmp_path / "words.srt"
  words.write_text("1\n00:00:00,000 --> 00:00:08,000\n" + "golden record smashes " * 12 + "\n")
  other = summarize(item.media, trained, tmp_path / "out", title="A day out", transcript=words)
  assert other.said[0] != summary[0].said[0]
  assert np.abs(other.scores.score - summary[0].scores.score).max() > 1e-4


def test_the_subtitles_in_a_video_are_read_if_no_file_is_beside_it(trained, tmp_path):
  said = ("subrip", 0, ((1000, 3000, "Come in"),))
  media = media_files.write_subtitled(tmp_path / "talk.mkv", said)
  result = summarize(media, trained, tmp_path / "out", share=0.5)
  assert " ".join(result.said).split() == ["Come", "in"]
  (tmp_path / "talk.srt").write_text("1\n00:00:01,000 --> 00:00:03,000\nGo on\n")
  result = summarize(media, trained, tmp_path / "out", share=0.5)
  assert " ".join(result.said).split() == ["Go", "on"]


def _cut(media, folder):
  """A file whose index is whole and whose last half is not there."""
  path = folder / "cut.mkv"
  data = _silent_copy(media, folder / "whole.mkv").read_bytes()
  path.write_bytes(data[: len(data) // 2])
  return path


def _broken(kind, media, folder):
  path = folder / f"{kind}.mp4"
  if kind == "text":
    path.write_text("not a video\n" * 100)
  elif kind == "empty":
    path.touch()
  elif kind == "folder":
    path.mkdir()
  return path


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "folder"])
def test_a_broken_video_is_one_line_and_leaves_nothing(item, trained, run_cli, tmp_path, kind):
  path = _broken(kind, item.media, tmp_path)
  out = tmp_path / "out"
  status, stdout, err = run_cli("summarize", path, "--checkpoint", trained, "--out", out)
  assert (status, stdout) == (2, "")
  assert err.startswith(f"vsumjax summarize: {path}: ")
  assert len(err.splitlines()) == 1
  assert not out.exists()


def test_what_there_is_of_a_video_that_is_cut_off_is_summarised(item, trained, run_cli, tmp_path):
  path, out = _cut(item.media, tmp_path), tmp_path / "out"
  status, _, err = run_cli("summarize", path, "--checkpoint", trained, "--out", out, "--share=0.4")
  assert status == 0
  warned = [line for line in err.splitlines() if "cut off" in line]
  assert len(warned) == 1
  assert re.fullmatch(rf"{path}: is cut off: \d+\.\d s of \d+\.\d s are there, and .*", warned[0])
  assert {file.name for file in out.iterdir()} == FILES
  scores = json.loads((out / "scores.json").read_text())
  assert 0 < scores["duration_s"] < 0.9 * video.probe(path).duration_s
  assert video.probe(out / "summary.mp4").duration_s == pytest.approx(scores["summary_s"], abs=0.1)
  with pytest.raises(InputError, match="is cut off"):  # as training and `prepare` read it
    list(video.iter_frames(path, [video.probe(path).duration_s], (8, 8)))


@pytest.mark.parametrize("share", ["0", "2", "-0.1", "nan"])
def test_a_share_out_of_range_is_refused_before_anything_is_read(run_cli, tmp_path, share):
  status, stdout, err = run_cli(
    "summarize", "none.mp4", "--checkpoint", "none", "--out", tmp_path / "out", f"--share={share}"
  )
  assert (status, stdout) == (2, "")
  assert "share of the video to keep must be above 0 and at most 1, not " in err
  assert len(err.splitlines()) == 1
  assert list(tmp_path.iterdir()) == []


def test_a_transcript_that_is_missing_or_broken_is_named(item, trained, run_cli, tmp_path):
  broken = tmp_path / "broken.srt"
  broken.write_text("1\n00:00 -> nonsense\nwords\n")
  for path, named in ((tmp_path / "none.srt", "no such transcript"), (broken, "broken.srt:2")):
    status, stdout, err = run_cli(
      "summarize", item.media, "--checkpoint", trained, "--out", tmp_path / "out",
      "--transcript", path,
    )  # fmt: skip
    assert (status, stdout) == (2, "")
    assert named in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_is_named(item, trained, run_cli, tmp_path):
  out = tmp_path / "out"
  out.write_text("mine")
  status, _, err = run_cli("summarize", item.media, "--checkpoint", trained, "--out", out)
  assert status == 2
  lines = [line for line in err.splitlines() if line.startswith("vsumjax")]
  assert len(lines) == 1
  assert str(out) in lines[0]
  assert out.read_text() == "mine"


def test_a_video_given_by_flag_is_the_same(item, trained, run_cli, tmp_path):
  out = tmp_path / "out"
  status, stdout, _ = run_cli(
    "summarize", "--video", item.media, "--checkpoint", trained, "--out", out
  )
  assert status == 0
  assert f"open {out / 'index.html'}" in stdout
  shutil.rmtree(out)


def test_the_summary_is_not_written_before_all_is_known(item, trained, tmp_path, monkeypatch):
  from vsumjax.summary import select

  def fail(*args):
    raise InputError("no")

  monkeypatch.setattr(select, "select_summary", fail)
  with pytest.raises(InputError):
    summarize(item.media, trained, tmp_path / "out")
  assert not (tmp_path / "out").exists()
