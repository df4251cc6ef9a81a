import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.data import prompt
from vsumjax.data.prompt import PromptConfig, SegmentText
from vsumjax.data.tokenizer import load_tokenizer, marker_piece, train_tokenizer
from vsumjax.types import InputError

CONFIG = PromptConfig(
  window=1,
  segment_s=2.0,
  frames_per_segment=2,
  tokens_per_frame=3,
  image_size=32,
  text_tokens=40,
  title_tokens=6,
  score_tokens=("1", "2", "3", "4", "5"),
)
WINDOW = dataclasses.replace(CONFIG, window=3, text_tokens=60)
TALK = SegmentText(said="dogs bark", heard="loud tone")
QUIET = SegmentText(said="", heard="silence")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp("tokenizer") / "tiny.model"
  texts = [prompt.TEMPLATE, "dogs bark at a loud tone", "silence in the park"]
  train_tokenizer(texts * 3, path, vocab_size=370, num_markers=4)
  return load_tokenizer(path)


def text_of(tokenizer, laid_out):
  """What is after bos, up to the padding, image slots left out."""
  ids = laid_out.tokens_T[laid_out.input_mask_T]
  return tokenizer.decode(ids[ids.tolist().index(tokenizer.bos_id) :])


def test_a_window_of_one_is_paligemmas_prompt(tokenizer):
  laid_out = prompt.layout(CONFIG, tokenizer, "Dogs", [TALK])
  text = tokenizer.encode("score importance. title: Dogs. heard: loud tone. said: dogs bark\n")
  used = 6 + 1 + len(text)
  assert CONFIG.sequence_length == 6 + 1 + 40 + 1
  assert laid_out.tokens_T.tolist() == (
    [tokenizer.image_id] * 6 + [tokenizer.bos_id] + text + [tokenizer.pad_id] * (48 - used)
  )
  assert laid_out.input_mask_T.tolist() == [True] * used + [False] * (48 - used)
  assert laid_out.score_pos_N.tolist() == [used - 1]
  assert laid_out.tokens_T[used - 1] == tokenizer.piece_id("\n")
  assert not laid_out.mask_ar_T.any()


def test_a_longer_window_is_read_at_its_markers(tokenizer):
  laid_out = prompt.layout(WINDOW, tokenizer, "Dogs", [TALK, QUIET, TALK])
  markers = [tokenizer.piece_id(marker_piece(n)) for n in range(3)]
  assert WINDOW.sequence_length == 3 * 7 + 1 + 60 + 1
  assert laid_out.score_pos_N.tolist() == [6, 13, 20]
  assert laid_out.tokens_T[laid_out.score_pos_N].tolist() == markers
  assert laid_out.tokens_T[21] == tokenizer.bos_id
  assert (laid_out.tokens_T == tokenizer.image_id).sum() == 18
  assert text_of(tokenizer, laid_out) == (
    "score importance. title: Dogs.<loc0000> heard: loud tone. said: dogs bark"
    "<loc0001> heard: silence.<loc0002> heard: loud tone. said: dogs bark\n"
  )


def test_absent_segments_keep_their_places_masked(tokenizer):
  laid_out = prompt.layout(WINDOW, tokenizer, "Dogs", [TALK])
  full = prompt.layout(WINDOW, tokenizer, "Dogs", [TALK] * 3)
  assert laid_out.tokens_T[:21].tolist() == full.tokens_T[:21].tolist()
  assert laid_out.score_pos_N.tolist() == full.score_pos_N.tolist()
  assert laid_out.input_mask_T[:22].tolist() == [True] * 7 + [False] * 14 + [True]
  assert "<loc0001>" not in text_of(tokenizer, laid_out)


def test_dtypes(tokenizer):
  laid_out = prompt.layout(WINDOW, tokenizer, "Dogs", [TALK])
  dtypes = [array.dtype for array in dataclasses.asdict(laid_out).values()]
  assert dtypes == [np.int32, np.int32, np.bool_, np.int32]


@pytest.mark.parametrize("num_segments", [0, 4])
def test_a_window_holds_one_to_n_segments(tokenizer, num_segments):
  with pytest.raises(ValueError, match="1 to 3 segments"):
    prompt.layout(WINDOW, tokenizer, "Dogs", [TALK] * num_segments)


def test_what_is_missing_is_left_out(tokenizer):
  nothing = SegmentText(said=" ", heard="")
  laid_out = prompt.layout(CONFIG, tokenizer, "", [nothing])
  assert text_of(tokenizer, laid_out) == "score importance.\n"


TEXT = st.text(max_size=40) | st.sampled_from(["<loc0000>", "a <loc0001>\nb", "\n\n", "<bos><pad>"])
SEGMENTS = st.lists(
  st.builds(SegmentText, said=TEXT, heard=TEXT, before=TEXT, after=TEXT), min_size=1, max_size=3
)


@given(title=TEXT, segments=SEGMENTS)
def test_no_text_gets_out_of_its_place(tokenizer, title, segments):
  laid_out = prompt.layout(WINDOW, tokenizer, title, segments)
  tokens = laid_out.tokens_T[laid_out.input_mask_T].tolist()
  assert len(laid_out.tokens_T) == WINDOW.sequence_length
  assert tokens.count(tokenizer.piece_id("\n")) == 1 and tokens[-1] == tokenizer.piece_id("\n")
  assert tokens.count(tokenizer.bos_id) == 1
  for n in range(3):
    expected = 2 if n < len(segments) else 0  # after its slots and in the text
    assert tokens.count(tokenizer.piece_id(marker_piece(n))) == expected
  assert tokenizer.pad_id not in tokens and tokenizer.eos_id not in tokens


def test_long_title_leaves_room_for_the_segments(tokenizer):
  cut = prompt.layout(CONFIG, tokenizer, "dogs " * 500, [TALK])
  text = text_of(tokenizer, cut)
  assert text.startswith("score importance. title: dogs dogs")
  assert text.endswith(". heard: loud tone. said: dogs bark\n")
  assert len(tokenizer.encode("dogs " * 500)) > CONFIG.title_tokens


def test_what_is_heard_stays_whole_before_words_are_cut(tokenizer):
  wordy = SegmentText(said="dogs bark in the park " * 100, heard="loud tone" + ", loud tone" * 2)
  assert len(tokenizer.encode(f" heard: {wordy.heard}.")) >= 60 / 3 / 2  # half of a share
  laid_out = prompt.layout(WINDOW, tokenizer, "Dogs", [wordy] * 3)
  parts = text_of(tokenizer, laid_out).split("<loc000")[1:]
  assert len(parts) == 3
  for part in parts:
    assert f"heard: {wordy.heard}. said: " in part
    assert "dogs" in part
  assert laid_out.input_mask_T.sum() > WINDOW.sequence_length - 3  # the budget is used up
  assert len({len(tokenizer.encode_plain(part)) for part in parts[:2]}) == 1  # equal shares


WORDS = ["dogs", "bark", "at", "a", "loud", "tone", "silence", "in", "the", "park", "7", "é"]
FEW_WORDS = st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)


@given(title=FEW_WORDS, texts=st.lists(st.tuples(FEW_WORDS, FEW_WORDS), min_size=1, max_size=3))
def test_text_that_fits_is_all_there_in_order(tokenizer, title, texts):
  config = dataclasses.replace(WINDOW, text_tokens=200, title_tokens=20)
  expected = "score importance." + f" title: {title}." * bool(title)
  for index, (said, heard) in enumerate(texts):
    expected += marker_piece(index) + f" heard: {heard}." * bool(heard)
    expected += f" said: {said}" * bool(said)
  segments = [SegmentText(said=said, heard=heard) for said, heard in texts]
  laid_out = prompt.layout(config, tokenizer, title, segments)
  start = config.visual_length + 1
  ids = tokenizer.encode(expected + "\n")
  assert laid_out.tokens_T[start : start + len(ids)].tolist() == ids
  assert laid_out.input_mask_T[start:].sum() == len(ids)


def said_with(tokenizer, segment, num_words):
  """What of a segment is said where its share of the text is `num_words` words of one id each."""
  heard = " ".join("xxxxxxxx")  # as long as the words around a title, which must fit, too
  own = len(tokenizer.encode(f"score importance. heard: {heard}. said:"))
  config = dataclasses.replace(CONFIG, text_tokens=own + num_words, title_tokens=1)
  segment = dataclasses.replace(segment, heard=heard)
  text = text_of(tokenizer, prompt.layout(config, tokenizer, "", [segment]))
  return text.strip().partition("said:")[2].split()


LETTERS = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
  """A tokenizer that spells a letter as one piece, its space included."""
  path = tmp_path_factory.mktemp("letters") / "letters.model"
  train_tokenizer(["x " + " ".join(LETTERS)] * 9, path, vocab_size=300, num_markers=4)
  tokenizer = load_tokenizer(path)
  assert all(len(tokenizer.encode(f" {letter}")) == 1 for letter in LETTERS)
  return tokenizer


@pytest.mark.parametrize(
  ("num_words", "kept"),
  [(9, "abcdefghi"), (8, "abcdefgh"), (7, "bcdefgh"), (3, "def"), (2, "de"), (1, "e"), (0, "")],
)
def test_of_too_many_words_those_in_the_middle_stay(letters, num_words, kept):
  segment = SegmentText(said=" ".join(LETTERS), heard="", before="never", after="said")
  assert said_with(letters, segment, num_words) == list(kept)


@pytest.mark.parametrize(
  ("num_words", "kept"),
  [(1, "e"), (2, "de"), (3, "def"), (4, "cdef"), (6, "bcdefg"), (7, "bcdefgh"), (50, "bcdefghi")],
)
def test_words_around_fill_what_is_left_nearest_first(letters, num_words, kept):
  segment = SegmentText(said="e", heard="", before="b c d", after="f g h i")
  assert said_with(letters, segment, num_words) == list(kept)


def test_words_around_a_silent_segment_are_told(letters):
  segment = SegmentText(said="", heard="", before="a b", after="c d")
  assert said_with(letters, segment, 3) == ["a", "b", "c"]


def test_a_word_that_does_not_fit_ends_its_side(letters):
  segment = SegmentText(said="e", heard="", before="a bbbbbbbbb d", after="f g h i")
  assert said_with(letters, segment, 6) == list("defghi")[:6]


def test_of_one_long_word_the_beginning_stays(letters):
  (cut,) = said_with(letters, SegmentText(said="e" * 100, heard=""), 5)
  assert 5 <= len(cut) < 100 and set(cut) == {"e"}


@given(
  said=st.lists(st.sampled_from(WORDS), max_size=60),
  before=FEW_WORDS,
  after=FEW_WORDS,
  text_tokens=st.integers(20, 80),
)
def test_whole_words_stay_and_the_budget_is_used(tokenizer, said, before, after, text_tokens):
  config = dataclasses.replace(CONFIG, text_tokens=text_tokens)
  segment = SegmentText(" ".join(said), "", before, after)
  laid_out = prompt.layout(config, tokenizer, "", [segment])
  kept = text_of(tokenizer, laid_out).strip().partition(" said: ")[2]
  around = " ".join([*before.split(), *said, *after.split()])
  assert f" {kept} " in f" {around} "
  used = laid_out.input_mask_T[config.visual_length :].sum() - 2
  longest = max(len(tokenizer.encode(f" {word}")) for word in WORDS)
  if kept and kept != around:
    assert text_tokens - longest < used <= text_tokens
    assert len(kept.split()) <= len(said) or " ".join(said) in kept


PLACED = dataclasses.replace(CONFIG, position=4, length=6)
HALFWAY = prompt.Place(4.0, 8.0, video_s=12.0)


def test_bars_tell_where_a_segment_lies_and_how_long_it_lasts(tokenizer):
  laid_out = prompt.layout(PLACED, tokenizer, "Dogs", [QUIET], [HALFWAY])
  assert text_of(tokenizer, laid_out) == (
    "score importance. title: Dogs. at: 1100. lasts: 111100. heard: silence.\n"
  )
  # Each cell is one token: the bars of near places share nearly all of them.
  later = prompt.layout(PLACED, tokenizer, "Dogs", [QUIET], [prompt.Place(8.0, 12.0, 12.0)])
  assert (later.tokens_T != laid_out.tokens_T).sum() == 1


@pytest.mark.parametrize(
  ("place", "bars"),
  [
    ((0.0, 0.5, 100.0), ("0000", "000000")),
    ((0.0, 2.0, 2.0), ("1100", "110000")),
    ((97.0, 100.0, 100.0), ("1111", "111000")),
    ((0.0, 400.0, 400.0), ("1100", "111111")),
  ],
)
def test_bars_of_the_shortest_the_first_the_last_and_the_longest(tokenizer, place, bars):
  laid_out = prompt.layout(PLACED, tokenizer, "", [QUIET], [prompt.Place(*place)])
  assert " at: {}. lasts: {}.".format(*bars) in text_of(tokenizer, laid_out)


def test_in_a_longer_window_each_segment_has_its_place(tokenizer):
  config = dataclasses.replace(WINDOW, text_tokens=90, position=2)
  places = [prompt.Place(2.0 * n, 2.0 * n + 2, video_s=6.0) for n in range(3)]
  text = text_of(tokenizer, prompt.layout(config, tokenizer, "", [QUIET] * 3, places))
  assert [part[: len("> at: 00.")] for part in text.split("<loc000")[1:]] == [
    "0> at: 00",
    "1> at: 10",
    "2> at: 11",
  ]


def test_places_that_are_not_asked_for_are_not_told(tokenizer):
  told = prompt.layout(CONFIG, tokenizer, "Dogs", [TALK], [HALFWAY])
  assert (
    told.tokens_T.tolist() == prompt.layout(CONFIG, tokenizer, "Dogs", [TALK]).tokens_T.tolist()
  )


def test_without_frames_a_prompt_is_text_alone(tokenizer):
  config = dataclasses.replace(CONFIG, frames_per_segment=0)
  laid_out = prompt.layout(config, tokenizer, "Dogs", [TALK])
  assert config.sequence_length == 1 + 40 + 1
  assert tokenizer.image_id not in laid_out.tokens_T
  assert laid_out.tokens_T[0] == tokenizer.bos_id


def test_a_budget_below_the_prompts_own_words_is_refused(tokenizer):
  config = dataclasses.replace(CONFIG, text_tokens=8)
  with pytest.raises(InputError, match=r"prompt.text_tokens: 8 cannot hold"):
    prompt.layout(config, tokenizer, "Dogs", [TALK])


def test_a_tokenizer_without_enough_markers_is_refused(tokenizer):
  config = dataclasses.replace(CONFIG, window=9, text_tokens=100)
  with pytest.raises(InputError, match="<loc0004>"):
    prompt.layout(config, tokenizer, "Dogs", [TALK])


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("window", 0),
    ("segment_s", 0.0),
    ("score_tokens", ("1", "1")),
    ("context_s", -1.0),
    ("context_s", float("nan")),
    ("segmentation", "scenes"),
    ("frames_per_segment", -1),
    ("position", -1),
  ],
)
def test_impossible_fields_are_named(field, value):
  with pytest.raises(InputError, match=f"prompt.{field}"):
    dataclasses.replace(CONFIG, **{field: value})


def test_the_digest_covers_every_field_and_the_tokenizer(tokenizer, tmp_path):
  digests = {prompt.prompt_digest(CONFIG, tokenizer)}
  for field in dataclasses.fields(CONFIG):
    value = getattr(CONFIG, field.name)
    changed = {"score_tokens": ("1", "2"), "segmentation": "kts"}.get(field.name) or value + 1
    digests.add(
      prompt.prompt_digest(dataclasses.replace(CONFIG, **{field.name: changed}), tokenizer)
    )
  train_tokenizer(["other words"], tmp_path / "other.model", vocab_size=370, num_markers=4)
  digests.add(prompt.prompt_digest(CONFIG, load_tokenizer(tmp_path / "other.model")))
  assert len(digests) == 1 + len(dataclasses.fields(CONFIG)) + 1
  assert prompt.prompt_digest(CONFIG, tokenizer) in digests


def test_bars_of_another_length_have_another_digest(tokenizer):
  configs = [dataclasses.replace(CONFIG, position=cells) for cells in (0, 4, 5)]
  assert len({prompt.prompt_digest(config, tokenizer) for config in configs}) == 3
