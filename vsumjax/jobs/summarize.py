"""Summarise a video file with a trained model."""

from __future__ import annotations

import sys
from pathlib import Path

from vsumjax.data.videos import Video
from vsumjax.data.windows import WindowSource
from vsumjax.experiment.workdir import Student, load_student
from vsumjax.host.progress import progress
from vsumjax.media import excerpts, video
from vsumjax.media.subtitles import find_beside
from vsumjax.summary import page, scores, select, storyboard
from vsumjax.types import InputError

_KEY_FRAME_HEIGHT = 360  # pixels


def summarize(
  media: Path,
  checkpoint: Path,
  out: Path,
  *,
  share: float = 0.15,
  title: str = "",
  transcript: Path | None = None,
) -> scores.Summary:
  """Writes summary.mp4, scores.json, storyboard.png, timeline.png and index.html to `out`.

  Args:
    media: any video file. Of one that is cut off, what is there is summarised, after a line of
      warning on standard error.
    checkpoint: workdir of the model.
    share: of the video's length, in (0, 1].
    title: the prompt's title; the file's name by default.
    transcript: in one of `subtitles.SUFFIXES`; by default the one beside the video, else the text
      subtitles within the video, if there are any.

  Raises:
    InputError: the video or transcript cannot be read, or the share is out of range. Nothing of the
      summary is written then.
  """
  # Before the model is loaded: a wrong file name should not take seconds.
  select.check_share(share)
  info = video.probe(media, allow_cut=True)
  if info.stated_s is not None:
    print(
      f"{media}: is cut off: {info.duration_s:.1f} s of {info.stated_s:.1f} s are there, and"
      " summarised",
      file=sys.stderr,
    )
  transcript = _find_transcript(media, transcript)
  student = load_student(checkpoint)
  item = Video(
    id=media.stem,
    media=media,
    title=title or media.stem.replace("_", " "),
    split="",
    transcript=transcript,
    labels=None,
    duration_s=info.duration_s,
    allow_cut=info.stated_s is not None,
  )
  summary = _score(student, item, share)
  with progress("render") as update:
    excerpts.write_excerpts(
      media,
      summary.selected_span_s_K2,
      out / "summary.mp4",
      lambda done_s, total_s: update(round(done_s, 1), round(total_s, 1), "s"),
    )
  storyboard.save_storyboard(
    out / "storyboard.png",
    _key_frames(item, info, summary),
    storyboard.captions_of(summary),
    summary.title,
  )
  storyboard.save_timeline(out / "timeline.png", summary)
  scores.save_scores(out / "scores.json", summary)
  page.save_page(out / "index.html", summary, out / "summary.mp4", out / "storyboard.png")
  num_chosen = int(summary.selected_N.sum())
  print(
    f"{summary.length_s:.1f} s of {summary.duration_s:.1f} s ({summary.share_reached:.1%}) in "
    f"{num_chosen} of {len(summary.selected_N)} segments: open {out / 'index.html'}"
  )
  return summary


def _find_transcript(media: Path, transcript: Path | None) -> Path | None:
  if transcript is not None:
    if not transcript.is_file():
      raise InputError(f"{transcript}: no such transcript")
    return transcript
  return find_beside(media)


def _score(student: Student, item: Video, share: float) -> scores.Summary:
  task = student.task
  source = WindowSource(
    (item,),
    task.config.prompt,
    task.tokenizer,
    without=frozenset(task.config.data.without),
  )
  with progress("score") as update:
    (readout,) = student.scorer(batch_size=8).read(source, update)
  answered = readout.at_exit(readout.num_exits - 1)
  texts = source.texts(0)
  return scores.Summary(
    media=item.media.name,
    title=item.title,
    duration_s=float(readout.span_s_N2[-1, 1]),
    share=share,
    scores=answered,
    selected_N=select.select_summary(answered.score, answered.span_s, share),
    said=tuple(text.said for text in texts),
    heard=tuple(text.heard for text in texts),
    model={
      "parameters_digest": student.params_digest,
      **task.digests(),
    },
  )


def _key_frames(item: Video, info: video.MediaInfo, summary: scores.Summary) -> list:
  """The middle frame of each chosen segment, in the video's own shape."""
  size = (_KEY_FRAME_HEIGHT, round(_KEY_FRAME_HEIGHT * info.width / info.height))
  times_s = summary.selected_span_s_K2.mean(axis=1)
  return list(video.iter_frames(item.media, times_s, size, allow_cut=item.allow_cut))
