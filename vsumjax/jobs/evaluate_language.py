"""Measures captions, retrieval and answers in files, whatever model made them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.console
import rich.table

from vsumjax.evaluation.language import answers as answering
from vsumjax.evaluation.language import meteor_data, records, retrieval
from vsumjax.evaluation.language.captions import score_captions
from vsumjax.evaluation.language.meteor import Meteor
from vsumjax.evaluation.language.wordnet import WordNet
from vsumjax.host.files import write_atomically
from vsumjax.types import InputError


def evaluate_captions(
  candidates: Path,
  references: Path,
  out: Path | None,
  *,
  meteor_resources: Path | None = None,
  rarity_from: Path | None = None,
  show: bool = True,
) -> dict[str, Any]:
  """Scores one caption a video; prints a table and writes captions.json in `out`.

  Args:
    candidates, references: forms of `records.read_candidates` and `records.read_references`.
    meteor_resources: METEOR's folder or jar; without it METEOR matches words and stems only.
    rarity_from: references that CIDEr-D takes document frequencies from, by default `references`.

  Raises:
    InputError: naming the file and the video.
  """
  meteor = Meteor(None if meteor_resources is None else meteor_data.load(meteor_resources))
  captions, wanted = records.read_candidates(candidates), records.read_references(references)
  rare = None if rarity_from is None else records.read_references(rarity_from)
  with _naming(f"{candidates} against {references}"):
    scores = score_captions(captions, wanted, meteor, rarity_from=rare)
  result = {
    "num_videos": len(scores.ids),
    "num_references": sum(map(len, wanted.values())),
    "corpus": dict(scores.corpus),
    "per_caption": {
      name: {measure: float(values[index]) for measure, values in scores.per_caption.items()}
      for index, name in enumerate(scores.ids)
    },
    "warnings": list(scores.warnings),
  }
  title = f"{len(scores.ids)} captions, {result['num_references']} references"
  rows = [[measure, f"{value:.4f}"] for measure, value in scores.corpus.items()]
  _report(title, ["", "corpus"], rows, result, out and out / "captions.json", show)
  return result


def evaluate_retrieval(
  similarities: Path,
  out: Path | None,
  *,
  captions_per_video: int | None = None,
  show: bool = True,
) -> dict[str, Any]:
  """Retrieval both ways; prints a table and writes retrieval.json in `out`.

  Args:
    similarities: form of `records.read_similarities`, texts by videos.
    captions_per_video: if the file does not say which video each text belongs to.

  Raises:
    InputError: naming the file, and the row or video.
  """
  matrix, video_of_text = records.read_similarities(similarities, captions_per_video)
  with _naming(str(similarities)):
    both = retrieval.evaluate(matrix, video_of_text)
  ways = {"text to video": both.text_to_video, "video to text": both.video_to_text}
  rows = [
    [
      name,
      *(f"{way.recall[depth]:.1%}" for depth in retrieval.DEPTHS),
      f"{way.median_rank:.1f}",
      f"{way.mean_rank:.1f}",
    ]
    for name, way in ways.items()
  ]
  header = ["", *(f"R@{depth}" for depth in retrieval.DEPTHS), "median rank", "mean rank"]
  result = {name.replace(" ", "_"): dataclasses.asdict(way) for name, way in ways.items()}
  title = f"{matrix.shape[0]} texts, {matrix.shape[1]} videos, expected over the order of ties"
  _report(title, header, rows, result, out and out / "retrieval.json", show)
  return result


def evaluate_answers(
  predictions: Path,
  answers: Path,
  out: Path | None,
  *,
  wordnet: Path | None = None,
  form: str = "plain",
  wups_form: str = "items",
  show: bool = True,
) -> dict[str, Any]:
  """Accuracy, by type too, and WUPS; prints a table and writes answers.json in `out`.

  Args:
    predictions, answers: forms of `records.read_predictions` and `records.read_questions`.
    wordnet: folder of WordNet's database; without it there is no WUPS.
    form, wups_form: see `language.answers.score_answers`.

  Raises:
    InputError: naming the file and the question.
  """
  given, questions = records.read_predictions(predictions), records.read_questions(answers)
  database = None if wordnet is None else WordNet(wordnet)
  with _naming(f"{predictions} against {answers}"):
    scores = answering.score_answers(
      given, questions, form=form, wordnet=database, wups_form=wups_form
    )
  result = {
    "num_questions": len(scores.ids),
    "form": form,
    "accuracy": scores.accuracy,
    "by_type": {
      kind: {"accuracy": accuracy, "num_questions": count}
      for kind, (accuracy, count) in scores.by_type.items()
    },
    "wups_form": wups_form if scores.wups else None,
    "wups": {str(threshold): value for threshold, value in scores.wups.items()},
    "correct": dict(zip(scores.ids, map(bool, scores.correct), strict=True)),
  }
  rows = [["all", str(len(scores.ids)), f"{scores.accuracy:.1%}"]]
  rows += [[kind, str(n), f"{accuracy:.1%}"] for kind, (accuracy, n) in scores.by_type.items()]
  rows += [[f"WUPS@{t}", str(len(scores.ids)), f"{v:.1%}"] for t, v in scores.wups.items()]
  title = f"Answers, compared as {form!r}"
  _report(title, ["", "questions", "score"], rows, result, out and out / "answers.json", show)
  return result


@contextlib.contextmanager
def _naming(files: str) -> Iterator[None]:
  """Puts the names of files before what is wrong with their content."""
  try:
    yield
  except InputError as error:
    raise InputError(f"{files}: {error}") from None


def _report(
  title: str,
  header: Sequence[str],
  rows: Sequence[Sequence[str]],
  result: Mapping[str, Any],
  out: Path | None,
  show: bool,
) -> None:
  if out is not None:
    write_atomically(out, json.dumps(result, indent=1, allow_nan=False))
  if not show:
    return
  table = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD, title_justify="left")
  for index, name in enumerate(header):
    table.add_column(name, justify="left" if index == 0 else "right")
  for row in rows:
    table.add_row(*row)
  warnings = result.get("warnings", ())
  table.caption = "\n".join(warnings) or None
  rich.console.Console().print(table)
