"""BLEU, METEOR, ROUGE-L and CIDEr-D of captions, as the COCO caption evaluation computes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vsumjax.evaluation.language import bleu, cider, ngrams, tokens
from vsumjax.evaluation.language.meteor import Meteor
from vsumjax.evaluation.language.rouge import rouge_l
from vsumjax.types import InputError


@dataclasses.dataclass(frozen=True)
class CaptionScores:
  """Figures of one set of captions.

  ids:         the videos, sorted.
  corpus:      by measure: BLEU and METEOR of summed counts, ROUGE-L and CIDEr-D as means. CIDEr-D
    is in 0..10, the others in 0..1.
  per_caption: by measure, f64[N] in the order of `ids`.
  warnings:    one sentence for each figure that says less than it seems to.
  """

  ids: tuple[str, ...]
  corpus: Mapping[str, float]
  per_caption: Mapping[str, np.ndarray]
  warnings: tuple[str, ...]


def score_captions(
  candidates: Mapping[str, str],
  references: Mapping[str, Sequence[str]],
  meteor: Meteor,
  *,
  rarity_from: Mapping[str, Sequence[str]] | None = None,
) -> CaptionScores:
  """Scores one caption a video against the references of the video.

  Args:
    rarity_from: references of the videos that CIDEr-D takes document frequencies from, as of a
      training set; by default the references of the evaluation, as published figures do.

  Raises:
    InputError: there is no video, the videos of the two differ, or one has no reference.
  """
  ids = _check_ids(candidates, references)
  ours = [tokens.words(candidates[name]) for name in ids]
  theirs = [[tokens.words(text) for text in references[name]] for name in ids]
  source = theirs if rarity_from is None else _words_of_all(rarity_from)
  rare = cider.rarity(source)
  pairs = list(zip(ours, theirs, strict=True))
  counts = [bleu.counts(*pair) for pair in pairs]
  corpus_bleu = bleu.bleu(bleu.total(counts))
  bleu_NK = np.array([bleu.bleu(part) for part in counts])
  corpus, per_caption = {}, {}
  for order in range(ngrams.LONGEST):
    corpus[f"BLEU-{order + 1}"] = float(corpus_bleu[order])
    per_caption[f"BLEU-{order + 1}"] = bleu_NK[:, order]
  corpus[meteor.name], per_caption[meteor.name] = meteor.scores(ours, theirs)
  per_caption["ROUGE-L"] = np.array([rouge_l(*pair) for pair in pairs])
  per_caption["CIDEr-D"] = np.array([cider.cider_d(*pair, rare) for pair in pairs])
  for name in ("ROUGE-L", "CIDEr-D"):
    corpus[name] = float(per_caption[name].mean())
  return CaptionScores(ids, corpus, per_caption, _warnings(ids, ours, rare))


def _check_ids(
  candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
  if not references:
    raise InputError("no video has a reference caption")
  for name in references:
    if name not in candidates:
      raise InputError(f"video {name!r} has references and no caption; caption every video")
    if not references[name]:
      raise InputError(f"video {name!r} has an empty list of references")
  for name in candidates:
    if name not in references:
      raise InputError(f"video {name!r} has a caption and no reference; take it out")
  return tuple(sorted(references))


def _words_of_all(references: Mapping[str, Sequence[str]]) -> list[list[list[str]]]:
  return [[tokens.words(text) for text in texts] for texts in references.values()]


def _warnings(
  ids: Sequence[str], ours: Sequence[Sequence[str]], rare: cider.Rarity
) -> tuple[str, ...]:
  found = []
  if rare.unknown == 0:
    found.append("CIDEr-D is 0 by definition: document frequencies of a single video weigh nothing")
  empty = [name for name, words in zip(ids, ours, strict=True) if not words]
  if empty:
    found.append(
      f"captions without a word, which score 0: {len(empty)}, first that of {empty[0]!r}"
    )
  return tuple(found)
