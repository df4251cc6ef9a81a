"""The same ids as transformers' Gemma tokenizer for a `.model` file laid out as PaliGemma's.

Three differences are meant. big_vision, and so PaliGemma's training, reads text with SentencePiece,
as we do, and transformers' conversion to its own format departs from it in each of them:

- `<bos>` and the other control pieces spelled in a text are plain text here, and control pieces in
  transformers;
- U+2581 in a text is a space here, also beside spaces; transformers takes a run of it first;
- a run of more spaces than the longest piece is cut from the left here, by merges in transformers.
"""

import re
import types

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.data.tokenizer import load_tokenizer, train_tokenizer

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
# sentencepiece has the same messages, but its are for a newer protobuf than apache-beam takes.
model_pb2 = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")

TEXTS = [
  "A red ball jumps over the fence.",
  "the dog barks, loud and long",
  "silence in 2024, 2024, 2024",
  "日本語の文字 and émoji 🎉 fiancé   many  spaces\tand tabs",
  "the the  the   the    the",
] * 3
SPACE, MAX_RUN = "\u2581", 31
# As in Gemma's file: symbols and runs of line breaks and of spaces come first ...
FRONT = (
  ["<mask>", "<2mass>", "[@BOS@]", "<unused0>", "<start_of_turn>", "<end_of_turn>"]
  + ["\n" * length for length in range(1, MAX_RUN + 1)]
  + [SPACE * length for length in range(2, MAX_RUN + 1)]
  + ["<table>", "<h1>", "</h1>"]
)
# ... and PaliGemma's pieces behind the last.
BACK = [f"<loc{i:04d}>" for i in range(1024)] + [f"<seg{i:03d}>" for i in range(128)]
CONTROLS = ["<pad>", "<eos>", "<bos>", "<unk>"]


def _write_like_paligemma(path):
  """A model trained by `train_tokenizer` with the pieces that Gemma's and PaliGemma's files add."""
  train_tokenizer(TEXTS, path, vocab_size=420, num_markers=0)
  model = model_pb2.ModelProto.FromString(path.read_bytes())
  piece = model_pb2.ModelProto.SentencePiece
  front, back = (
    [piece(piece=text, score=0.0, type=piece.USER_DEFINED) for text in texts]
    for texts in (FRONT, BACK)
  )
  learned = [p for p in model.pieces[len(CONTROLS) :] if p.piece not in FRONT]
  pieces = [*model.pieces[: len(CONTROLS)], *front, *learned, *back]
  del model.pieces[:]
  model.pieces.extend(pieces)
  path.write_bytes(model.SerializeToString())


def _load_theirs(folder):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sentencepiece, "sentencepiece_model_pb2", model_pb2, raising=False)
    return transformers.GemmaTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  folder = tmp_path_factory.mktemp("paligemma")
  _write_like_paligemma(folder / "tokenizer.model")
  theirs = _load_theirs(folder)
  return types.SimpleNamespace(ours=load_tokenizer(folder / "tokenizer.model"), theirs=theirs)


def _assert_same(pair, text):
  assert pair.ours.encode(text) == pair.theirs.encode(text, add_special_tokens=False)


HARD_TEXTS = [
  "",
  "a dog",
  " leading and trailing ",
  "  two of   three and    four  ",
  "a" + " " * MAX_RUN + "b",
  "\n",
  "a\nb\n\nc\n\n\n",
  " \n \n  \n",
  "\n" * (2 * MAX_RUN + 5),
  "\t",
  "\t\ta \tb\t ",
  "\r\n\v\f",
  "2024 12345 3.14 ٣٤ ½ 10²",
  "🎉🎉😀👩‍👩‍👧 🇺🇳",
  "日本語 漢字　カナ",
  "e\u0301\u0301 é a\u0308\u0327",
  "\x00\x7f\u200b\ufeff\U0010ffff",
  "<0x41><0x0A>",
  "x<loc0001>y",
  "<loc0000> <loc1023><seg005>\n<seg127>",
  "<loc1024><seg128><loc1><LOC0001>< loc0001>",
  "<mask><unused0> <h1>x</h1><table>",
  "<image>",
  "<<loc0003>>",
]


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_hard_texts_have_the_same_ids(pair, text):
  _assert_same(pair, text)


def _is_comparable(text):
  """Not one of the three differences above."""
  too_long = " " * (MAX_RUN + 1)
  return SPACE not in text and too_long not in text and not re.search("|".join(CONTROLS), text)


WORDS = [" ", "  ", "\n", "\n\n", "\t", "the", " ball", ", ", "2", "é", "\u0301", "日", "🎉"]
SYMBOLS = ["<loc0001>", "<seg005>", "<mask>", "</h1>", "<0x41>", "[@BOS@]", "<", ">", "bos>", "loc"]
PARTS = st.lists(st.sampled_from([*WORDS, *SYMBOLS])).map("".join)


@given(text=(st.text() | PARTS).filter(_is_comparable))
def test_any_text_has_the_same_ids(pair, text):
  _assert_same(pair, text)


def test_the_pieces_of_paligemma_lie_where_it_ships_them(pair):
  ours, theirs = pair.ours, pair.theirs
  assert (ours.pad_id, ours.eos_id, ours.bos_id) == (0, 1, 2)
  assert (theirs.pad_token_id, theirs.eos_token_id, theirs.bos_token_id) == (0, 1, 2)
  assert [ours.piece_id(piece) for piece in BACK] == theirs.convert_tokens_to_ids(BACK)
  assert ours.piece_id("<seg127>") == ours.vocab_size - 1
  assert len(theirs) == ours.vocab_size


def test_the_image_token_follows_the_last_piece(pair, tmp_path):
  """257152 in PaliGemma, whose files have that many pieces."""
  _write_like_paligemma(tmp_path / "tokenizer.model")
  theirs = _load_theirs(tmp_path)
  theirs.add_special_tokens({"additional_special_tokens": ["<image>"]})
  assert theirs.convert_tokens_to_ids("<image>") == pair.ours.image_id == pair.ours.vocab_size


def test_bos_is_put_by_the_caller(pair):
  """Neither adds it; PaliGemma's processor writes `<bos>` before the prompt, our prompt its id."""
  ids = pair.theirs.encode("<bos>a dog\n", add_special_tokens=True)
  assert ids == [pair.ours.bos_id, *pair.ours.encode("a dog\n")]
  assert pair.theirs.encode("a dog") == pair.ours.encode("a dog")


@pytest.mark.parametrize("text", [*CONTROLS, "a <bos> dog<eos>"])
def test_control_pieces_in_a_text_are_text_here(pair, text):
  assert pair.ours.decode(pair.ours.encode(text)) == text
  assert not {0, 1, 2, 3} & set(pair.ours.encode(text))
  assert {0, 1, 2, 3} & set(pair.theirs.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("text", ["\u2581\u2581 a", "a" + " " * (MAX_RUN + 9) + "b"])
def test_runs_of_spaces_are_cut_as_sentencepiece_cuts_them(pair, text):
  ours, theirs = pair.ours.encode(text), pair.theirs.encode(text, add_special_tokens=False)
  assert ours != theirs
  assert pair.ours.decode(ours) == pair.ours.decode(theirs) == text.replace(SPACE, " ")
