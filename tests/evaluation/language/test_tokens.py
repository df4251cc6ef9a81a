"""Words as Stanford's tokenizer splits them."""

import hypothesis
import pytest
from hypothesis import strategies as st
from token_cases import WORDS

from vsumjax.evaluation.language import tokens


@pytest.mark.parametrize(("caption", "expected"), WORDS)
def test_words_are_those_of_the_penn_treebank(caption, expected):
  assert " ".join(tokens.words(caption)) == expected


def test_an_abbreviation_keeps_its_period_and_a_sentence_does_not():
  assert tokens.words("He met Dr. Jones in the U.S. today.") == (
    ["he", "met", "dr.", "jones", "in", "the", "u.s.", "today"]
  )


@pytest.mark.parametrize("caption", ["", " ", "\n\t", ".", "- ' !", "\U0001f600"])
def test_a_caption_without_words(caption):
  assert tokens.words(caption) == []


@hypothesis.given(st.text(max_size=80))
def test_any_text_is_split_into_words_without_spaces_or_punctuation(caption):
  found = tokens.words(caption)
  assert all(word and not any(c.isspace() for c in word) for word in found)
  assert not tokens.PUNCTUATION.intersection(found)
  assert tokens.words(caption.replace(" ", " \n ")) == found


@hypothesis.given(st.lists(st.from_regex(r"[b-z]{2,8}", fullmatch=True), max_size=12))
def test_plain_words_are_the_words(plain):
  plain = [word for word in plain if word not in tokens._SPLIT_WORDS]
  assert tokens.words(" ".join(plain)) == plain
