"""A corpus of titles and captions, made of annotations."""

import json

import numpy as np
import pytest

from vsumjax.data.manifest import load_manifest
from vsumjax.data.tokenizer import load_tokenizer
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.jobs.text_corpus import make_corpus
from vsumjax.media import subtitles
from vsumjax.types import InputError

LEVELS_AF = np.repeat([[1, 5, 2, 3], [4, 4, 1, 2]], 15, axis=1).astype(np.uint8)
VIDEO = AnnotatedVideo(
  id="video_1",
  num_frames=60,
  picks_P=np.arange(0, 60, 15),
  fps=10.0,
  title="Flat tyre",
  category="VT",
  levels_AF=LEVELS_AF,
  segments_K2=np.array([[1, 20], [22, 59]]),
)
CAPTION = {"start_s": 0.0, "end_s": 4.0, "text": "A man at a wheel."}


def write_captions(folder, content):
  path = folder / "captions.json"
  path.write_text(json.dumps(content))
  return path


@pytest.fixture
def captions(tmp_path):
  return write_captions(tmp_path, {"tvsum": {"video_1": [CAPTION]}})


def test_a_video_becomes_a_line_of_a_manifest(captions, tmp_path):
  path = make_corpus([VIDEO], captions, tmp_path / "corpus")
  (entry,) = load_manifest(path).videos
  assert (entry.id, entry.title, entry.split) == (
    "video_1",
    "changing vehicle tire: Flat tyre",
    "all",
  )
  assert entry.media is None and entry.transcript is None
  assert entry.duration_s == 6.0
  assert entry.edges_s == (0.0, 2.2, 6.0)  # each reaches to the next, the first from the start
  assert entry.labels.unit_s == 1.5
  assert entry.labels.levels_AN.tolist() == [[1, 5, 2, 3], [4, 4, 1, 2]]
  assert subtitles.load_transcript(entry.sounds) == (subtitles.Cue(0.0, 4.0, CAPTION["text"]),)
  tokenizer = load_tokenizer(path.parent / "tokenizer.model")
  assert tokenizer.piece_id("<loc0063>")
  assert len(tokenizer.encode_plain("1100")) == 4  # as the bars of places need it


def test_the_same_input_gives_the_same_corpus(captions, tmp_path):
  first, again = (make_corpus([VIDEO], captions, tmp_path / name) for name in ("a", "b"))
  assert load_manifest(first).digest == load_manifest(again).digest
  tokenizers = [path.parent / "tokenizer.model" for path in (first, again)]
  assert tokenizers[0].read_bytes() == tokenizers[1].read_bytes()


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ([], "with the captions of 'tvsum'"),
    ({"summe": {}}, "with the captions of 'tvsum'"),
    ({"tvsum": {"video_2": []}}, "has no captions of video_1"),
    ({"tvsum": {"video_1": [{"text": "a"}]}}, "video_1: must be a list of captions"),
    ({"tvsum": {"video_1": 3}}, "video_1: must be a list of captions"),
  ],
)
def test_captions_that_lack_something_are_refused(content, message, tmp_path):
  with pytest.raises(InputError, match=f"captions.json: .*{message}"):
    make_corpus([VIDEO], write_captions(tmp_path, content), tmp_path / "corpus")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"levels_AF": None}, "video_1: has no levels"),
    ({"fps": 0.0}, "video_1: has no frames a second"),
    ({"picks_P": np.array([0, 15, 20])}, "video_1: its picks are not evenly spaced"),
  ],
)
def test_annotations_that_lack_something_are_refused(changes, message, captions, tmp_path):
  fields = {name: getattr(VIDEO, name) for name in VIDEO.__dataclass_fields__} | changes
  with pytest.raises(InputError, match=message):
    make_corpus([AnnotatedVideo(**fields)], captions, tmp_path / "corpus")
