import pickle

import fsspec
import pytest

from vsumjax.data.prepared.storage import Folder, on_this_machine
from vsumjax.types import InputError


@pytest.fixture(params=["path", "file", "memory"])
def folder(request, tmp_path):
  """A folder that is not there yet, on this machine and in what stands for a bucket."""
  if request.param == "memory":
    yield Folder("memory://bucket/a/b")
    fsspec.filesystem("memory").rm("/bucket", recursive=True)
  else:
    prefix = "file://" if request.param == "file" else ""
    yield Folder(f"{prefix}{tmp_path}/a/b")


def test_what_is_written_can_be_read_listed_replaced_and_removed(folder):
  assert folder.sizes() == {}
  folder.write("b.json", "é")
  folder.write("a.bin", b"123")
  assert folder.sizes() == {"a.bin": 3, "b.json": 2}
  folder.write("a.bin", b"4")
  assert folder.read("a.bin") == b"4" and folder.read("b.json").decode() == "é"
  folder.remove("a.bin")
  assert folder.sizes() == {"b.json": 2}
  assert pickle.loads(pickle.dumps(folder)).read("b.json") == folder.read("b.json")
  with pytest.raises(FileNotFoundError):
    folder.read("a.bin")


def test_a_file_appears_when_the_body_succeeds(folder):
  with folder.replacing("x.arrayrecord") as temporary:
    temporary.write_bytes(b"whole")
    assert folder.sizes() == {}
  assert folder.read("x.arrayrecord") == b"whole"
  with pytest.raises(KeyError), folder.replacing("x.arrayrecord") as temporary:
    temporary.write_bytes(b"half")
    raise KeyError
  assert folder.read("x.arrayrecord") == b"whole"
  assert not temporary.exists()


def test_leftovers_go(tmp_path):
  folder = Folder(tmp_path)
  (tmp_path / ".x.12.tmp.json").write_text("half")
  assert folder.sizes() == {}
  folder.remove_leftovers()
  assert list(tmp_path.iterdir()) == []


def test_a_url_that_nothing_can_open_is_an_error():
  with pytest.raises(InputError, match="carrier-pigeon://a/b: cannot be opened"):
    Folder("carrier-pigeon://a/b")


def test_a_file_in_a_bucket_is_fetched_for_a_while():
  url = "memory://bucket/talk.en.srt"
  fsspec.filesystem("memory").pipe_file("/bucket/talk.en.srt", b"words")
  with on_this_machine(url) as path:
    assert path.read_bytes() == b"words" and path.suffix == ".srt"
  assert not path.exists()
  with pytest.raises(InputError, match=r"memory://bucket/none: there is no such file"):  # noqa: SIM117
    with on_this_machine("memory://bucket/none"):
      pass


def test_a_file_on_this_machine_is_taken_as_it_is(tmp_path):
  with on_this_machine(tmp_path / "a.mp4") as path:
    assert path == tmp_path / "a.mp4"
  with on_this_machine(None) as path:
    assert path is None
