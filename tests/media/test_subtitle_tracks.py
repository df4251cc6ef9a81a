import pytest
from av.stream import Disposition
from media_files import write_subtitled

from vsumjax.media import subtitle_tracks
from vsumjax.media.subtitles import Cue
from vsumjax.types import InputError

SAID = ((1000, 3000, "<i>Come,</i>\ncome in"), (4000, 5000, "B"))
CUES = (Cue(1.0, 3.0, "Come, come in"), Cue(4.0, 5.0, "B"))


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "subrip"), ("a.mp4", "mov_text")])
def test_text_in_a_video_is_read(tmp_path, name, codec):
  path = write_subtitled(tmp_path / name, (codec, Disposition.default, SAID))
  assert subtitle_tracks.load_track(path) == CUES


def test_times_count_from_where_the_video_starts(tmp_path):
  path = write_subtitled(tmp_path / "a.mkv", ("subrip", Disposition.default, SAID), start_ms=5000)
  assert subtitle_tracks.load_track(path) == CUES


def test_the_default_track_goes_first(tmp_path):
  none, default, forced = Disposition(0), Disposition.default, Disposition.forced
  other = ((1000, 2000, "Entrez"),)
  for marks, expected in (
    ((none, none), "Entrez"),
    ((none, default), "Come, come in"),
    ((forced, none), "Come, come in"),
  ):
    tracks = [("subrip", mark, said) for mark, said in zip(marks, (other, SAID), strict=True)]
    assert (
      subtitle_tracks.load_track(write_subtitled(tmp_path / "a.mkv", *tracks))[0].text == expected
    )


def test_pictures_of_text_are_passed_over(tmp_path, capfd):
  pictures = ("dvd_subtitle", Disposition.default, ((1000, 2000, "not a picture"),))
  text = ("subrip", Disposition(0), SAID)
  assert subtitle_tracks.load_track(write_subtitled(tmp_path / "a.mkv", pictures)) == ()
  assert subtitle_tracks.load_track(write_subtitled(tmp_path / "b.mkv", pictures, text)) == CUES
  assert capfd.readouterr().err == ""


def test_a_video_without_text_says_nothing(tmp_path):
  assert subtitle_tracks.load_track(write_subtitled(tmp_path / "a.mp4")) == ()
  with pytest.raises(InputError, match=r"none\.mp4: there is no such file"):
    subtitle_tracks.load_track(tmp_path / "none.mp4")
