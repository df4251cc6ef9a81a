"""A made-up language whose next token has a long tail, for experiments with a large vocabulary.

Zipf's law says that the r-th most frequent word has a probability of about 1 / r, so that thousands
of rare words carry a good part of any text. Here the next token comes, by a coin for each token,
either from the followers of the token before it or from the words of the text's topic; either is a
ranking of the vocabulary, of which rank r is drawn with a probability proportional to r ** -s.
"""

from __future__ import annotations

import dataclasses

import numpy as np

START = 0  # before the first token of a text; texts may hold it too


@dataclasses.dataclass(frozen=True)
class FakeLanguage:
  """Rankings come from `seed`, texts from the generator given to `texts`.

  num_classes: of tokens that share their followers.
  num_topics: one of them, as likely as the others, holds for a whole text.
  follower_share: of tokens that follow the one before.
  follower_exponent, topic_exponent: s of the two rankings.
  """

  vocab_size: int
  num_classes: int = 32
  num_topics: int = 8
  follower_share: float = 0.75
  follower_exponent: float = 1.5
  topic_exponent: float = 1.0
  seed: int = 0

  def texts(self, rng: np.random.Generator, num_texts: int, num_tokens: int) -> np.ndarray:
    """i32[num_texts, 1 + num_tokens], `START` first."""
    class_of_token, followers, topics = self._rankings()
    topic = topics[rng.integers(self.num_topics, size=num_texts)]
    rows = np.arange(num_texts)
    columns = [np.full(num_texts, START)]
    for _ in range(num_tokens):
      rank = self._ranks(rng, self.follower_exponent, num_texts)
      follower = followers[class_of_token[columns[-1]], rank]
      of_topic = topic[rows, self._ranks(rng, self.topic_exponent, num_texts)]
      columns.append(np.where(rng.random(num_texts) < self.follower_share, follower, of_topic))
    return np.stack(columns, axis=1).astype(np.int32)

  def _rankings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class of each token; tokens by rank after each class, and in each topic."""
    rng = np.random.default_rng(self.seed)
    ranked = np.tile(np.arange(self.vocab_size), (self.num_classes + self.num_topics, 1))
    followers, topics = np.split(rng.permuted(ranked, axis=1), [self.num_classes])
    return rng.integers(self.num_classes, size=self.vocab_size), followers, topics

  def _ranks(self, rng: np.random.Generator, exponent: float, count: int) -> np.ndarray:
    cumulated = np.cumsum(np.arange(1, self.vocab_size + 1.0) ** -exponent)
    return np.searchsorted(cumulated, rng.random(count) * cumulated[-1], side="right")
