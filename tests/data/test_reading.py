import media_files
import numpy as np
import three_videos

from vsumjax.data import reading
from vsumjax.data.videos import Video


def test_words_in_a_video_are_read_where_no_transcript_is_named(tmp_path):
  said_ms = ((1000, 3000, "Come in"), (4000, 5000, "B"))
  media = media_files.write_subtitled(tmp_path / "a.mkv", ("subrip", 0, said_ms))
  spans = np.array([[0.0, 3.0], [3.0, 6.0]])

  def said(transcript=None, without=()):
    item = Video(id="a", media=media, title="A", split="train", transcript=transcript, labels=None)
    texts = reading.read_texts(item, spans, three_videos.CONFIG, frozenset({"sound", *without}))
    return tuple(text.said for text in texts)

  assert said() == ("Come in", "B")
  assert said(without=("text",)) == ("", "")
  beside = tmp_path / "a.sbv"
  beside.write_text("0:00:01.000,0:00:02.000\nOther words\n")
  assert said(beside) == ("Other words", "")
