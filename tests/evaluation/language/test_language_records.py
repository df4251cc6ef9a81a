"""Files of captions, answers and similarities, and what is refused in them."""

import json

import ml_dtypes
import numpy as np
import pytest

from vsumjax.evaluation.language import records
from vsumjax.evaluation.language.answers import Question
from vsumjax.types import InputError


@pytest.fixture
def file(tmp_path):
  def write(content):
    path = tmp_path / "input.json"
    if isinstance(content, bytes):
      path.write_bytes(content)
    else:
      path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path

  return write


def test_captions_in_both_forms(file):
  assert records.read_candidates(file({"a": "x", "b": ""})) == {"a": "x", "b": ""}
  results = [{"image_id": 7, "caption": "x"}, {"video_id": "b", "caption": "y"}]
  assert records.read_candidates(file(results)) == {"7": "x", "b": "y"}
  assert records.read_references(file({"a": ["x", "y"]})) == {"a": ["x", "y"]}
  annotations = {"images": [], "annotations": [*results, {"image_id": 7, "caption": "z"}]}
  assert records.read_references(file(annotations)) == {"7": ["x", "z"], "b": ["y"]}


def test_answers_in_all_forms(file):
  assert records.read_predictions(file({"q": "dog", "r": 3})) == {"q": "dog", "r": 3}
  results = [{"question_id": 1, "answer": "dog"}]
  assert records.read_predictions(file(results)) == {"1": "dog"}
  questions = {"q": "dog", "r": ["a", "b"], "s": {"answer": 2, "type": "why"}}
  assert records.read_questions(file(questions)) == {
    "q": Question(("dog",)),
    "r": Question(("a", "b")),
    "s": Question((2,), "why"),
  }


@pytest.mark.parametrize(
  ("read", "content", "message"),
  [
    (records.read_candidates, "", "line 1 is not JSON"),
    (records.read_candidates, '{"a":\n "x",}', "line 2 is not JSON"),
    (records.read_candidates, b"\xff\xfe", "is not text in UTF-8"),
    (records.read_candidates, "{}", "is empty; give captions as"),
    (records.read_candidates, '{"a": "x", "a": "y"}', "'a' is there twice"),
    (records.read_candidates, "3", "holds 3; give captions as"),
    (records.read_candidates, {"a": ["x"]}, r"'a' has \[\"x\"\] where a text is due"),
    (records.read_candidates, {"a": None}, "'a' has null where a text is due"),
    (records.read_candidates, [{"image_id": 1}], "lacks image_id or caption"),
    (records.read_candidates, ["a"], "lacks image_id or caption"),
    (records.read_candidates, [{"image_id": 1, "caption": "x"}] * 2, "'1' is there twice"),
    (records.read_references, {"a": "x"}, "video 'a' needs a list with a reference"),
    (records.read_references, {"a": []}, "video 'a' needs a list with a reference"),
    (records.read_references, {"a": ["x", 4]}, "'a' has 4 where a text is due"),
    (records.read_references, [], "give references as"),
    (records.read_predictions, {"q": True}, "'q' has true; give a text or a number"),
    (records.read_predictions, {"q": 1.5}, "'q' has 1.5; give a text or a number"),
    (records.read_predictions, [{"question_id": 1}], "lacks question_id or answer"),
    (records.read_predictions, [], "is empty"),
    (records.read_questions, {"q": {"answers": "x"}}, "question 'q' needs the fields answer"),
    (records.read_questions, {"q": {"answer": "x", "type": 3}}, "'q' has 3 where a text"),
    (records.read_questions, {"q": []}, "question 'q' has an empty list of answers"),
  ],
)
def test_broken_files_are_refused_with_their_name(file, read, content, message):
  with pytest.raises(InputError, match=rf"input\.json: .*{message}"):
    read(file(content))


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(InputError, match=r"no\.json: cannot be read"):
    records.read_candidates(tmp_path / "no.json")


def test_similarities_in_all_forms(tmp_path):
  values = np.arange(8.0).reshape(4, 2)
  np.save(tmp_path / "plain.npy", values)
  matrix, owner = records.read_similarities(tmp_path / "plain.npy")
  np.testing.assert_array_equal(matrix, values)
  assert owner is None
  _, owner = records.read_similarities(tmp_path / "plain.npy", captions_per_video=2)
  assert owner.tolist() == [0, 0, 1, 1]
  np.savez(tmp_path / "numbers.npz", similarity=values, video_of_text=[1, 0, 0, 1])
  assert records.read_similarities(tmp_path / "numbers.npz")[1].tolist() == [1, 0, 0, 1]
  named = {"video_of_text": ["b", "a", "a", "b"], "video_ids": ["a", "b"]}
  np.savez(tmp_path / "names.npz", similarity=values, **named)
  assert records.read_similarities(tmp_path / "names.npz")[1].tolist() == [1, 0, 0, 1]


def test_bfloat16_comes_back(tmp_path):
  values = np.array([[1.5, -2.25]], ml_dtypes.bfloat16)
  np.save(tmp_path / "half.npy", values)
  matrix, _ = records.read_similarities(tmp_path / "half.npy")
  assert matrix.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(matrix, values)


def test_broken_similarities_are_refused(tmp_path):
  path = tmp_path / "s.npz"
  values = np.eye(2)
  for arrays, message in (
    ({"scores": values}, "unknown array 'scores'"),
    ({"video_of_text": [0, 1]}, "holds no array `similarity`"),
    ({"similarity": values, "video_of_text": ["a", "b"]}, "give columns, or video_ids too"),
    (
      {"similarity": values, "video_of_text": ["a", "c"], "video_ids": ["a", "b"]},
      "names 'c', which video_ids lacks",
    ),
    ({"similarity": values, "video_ids": ["a", "a"]}, "holds an id twice"),
    ({"similarity": np.array([{}], object)}, "can be read"),
  ):
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=rf"s\.npz: .*{message}"):
      records.read_similarities(path)
  np.savez(path, similarity=values, video_of_text=[0, 1])
  with pytest.raises(InputError, match="cannot be given too"):
    records.read_similarities(path, captions_per_video=1)
  np.savez(path, similarity=values)
  with pytest.raises(InputError, match="must be 1 or more"):
    records.read_similarities(path, captions_per_video=0)
  whole = path.read_bytes()
  for broken in (b"", b"no array", whole[: len(whole) // 2]):
    path.write_bytes(broken)
    with pytest.raises(InputError, match=r"s\.npz: is not a \.npy or \.npz file"):
      records.read_similarities(path)
