"""The made-up language: what its texts follow, and that its tail is long."""

import dataclasses

import numpy as np

from vsumjax.data.made.language import START, FakeLanguage

LANGUAGE = FakeLanguage(vocab_size=500, num_classes=3, num_topics=2)


def test_texts_come_from_the_generator_alone():
  one, same, other = (LANGUAGE.texts(np.random.default_rng(s), 4, 6) for s in (0, 0, 1))
  assert one.shape == (4, 7)
  assert one.dtype == np.int32
  assert (one[:, 0] == START).all()
  assert 0 <= one.min() <= one.max() < 500
  np.testing.assert_array_equal(one, same)
  assert (one != other).mean() > 0.5


def test_a_token_follows_the_class_of_the_one_before():
  """Only followers: rank r of a class has the share r ** -s / Σ r ** -s."""
  language = dataclasses.replace(LANGUAGE, follower_share=1.0)
  class_of_token, followers, _ = language._rankings()
  text = language.texts(np.random.default_rng(0), 500, 40)
  after = text[:, 1:][class_of_token[text[:, :-1]] == 1]
  rank = np.argsort(followers[1])[after]
  weight = np.arange(1, 501.0) ** -1.5
  expected = weight / weight.sum()
  found = np.bincount(rank, minlength=500) / len(rank)
  error = np.sqrt(expected / len(rank))
  assert (np.abs(found - expected)[:20] < 4 * error[:20]).all()
  tail = expected[20:].sum()
  assert tail > 0.05
  assert abs(found[20:].sum() - tail) < 4 * np.sqrt(tail / len(rank))


def test_a_topic_holds_for_a_text():
  """Only topics: the likeliest token of a text's topic is a seventh of it, the other's is rare."""
  language = dataclasses.replace(LANGUAGE, follower_share=0.0)
  *_, topics = language._rankings()
  text = language.texts(np.random.default_rng(0), 40, 400)[:, 1:]
  share = np.stack([(text == topic[0]).mean(axis=1) for topic in topics])
  np.testing.assert_allclose(share.max(axis=0), 1 / np.sum(1 / np.arange(1, 501)), atol=0.07)
  assert (share.min(axis=0) < 0.05).all()
  assert {0, 1} == set(share.argmax(axis=0))


def test_the_seed_is_of_the_rankings():
  other = dataclasses.replace(LANGUAGE, seed=1)
  pairs = zip(LANGUAGE._rankings(), other._rankings(), strict=True)
  assert all((mine != its).mean() > 0.5 for mine, its in pairs)
