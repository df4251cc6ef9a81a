import pytest

from vsumjax.evaluation.score_sets import find_files
from vsumjax.types import InputError


def test_globs_are_expanded_and_sorted_by_numbers(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ("split10/a.json", "split2/a.json", "split2/.b.json", "one[1].json", "one1.json"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  found = find_files(["z.json", "split*/*.json", "one[1].json"])
  # One that is named may be missing, which its reader tells; a name that exists is no glob.
  assert list(map(str, found)) == ["z.json", "split2/a.json", "split10/a.json", "one[1].json"]
  assert [path.name for path in find_files(["**/a.json"])] == ["a.json", "a.json"]


@pytest.mark.parametrize(
  ("patterns", "message"),
  [(["a", "b?"], r"b\?: matches no file"), (["a", "b", "a"], "a: is given twice")],
)
def test_a_glob_without_files_and_a_file_given_twice(tmp_path, monkeypatch, patterns, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=message):
    find_files(patterns)
