import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsumjax.data.tokenizer import load_tokenizer, marker_piece, train_tokenizer
from vsumjax.types import InputError

TEXTS = (
  "A red ball jumps over the fence.",
  "the dog barks, loud and long",
  "silence in 2024, 2024, 2024",
)
PLAIN_TEXT = st.text().filter(lambda text: "\u2581" not in text)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp("tokenizer") / "tiny.model"
  train_tokenizer(TEXTS, path, vocab_size=340, num_markers=4)
  return load_tokenizer(path)


@given(text=PLAIN_TEXT)
def test_decode_undoes_encode(tokenizer, text):
  assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text())
def test_ids_are_within_the_vocabulary(tokenizer, text):
  assert all(0 <= i < tokenizer.vocab_size for i in tokenizer.encode(text))


def test_special_ids_follow_gemma(tokenizer):
  assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id) == (0, 1, 2)
  assert tokenizer.piece_id("<unk>") == 3
  assert tokenizer.image_id == tokenizer.vocab_size == 340


@pytest.mark.parametrize("digit", "12345")
@pytest.mark.parametrize("context", ["{}", " {}", "a{}b", "12{}45", "score: {}"])
def test_a_digit_is_one_piece_in_any_context(tokenizer, digit, context):
  assert tokenizer.piece_id(digit) in tokenizer.encode(context.format(digit))


def test_score_digits_exist_in_a_corpus_without_digits(tmp_path):
  train_tokenizer(["no numbers here"], tmp_path / "t.model", vocab_size=300, num_markers=1)
  tokenizer = load_tokenizer(tmp_path / "t.model")
  assert [tokenizer.encode(digit) for digit in "12345"] == [
    [tokenizer.piece_id(digit)] for digit in "12345"
  ]


def test_line_break_and_markers_are_single_pieces(tokenizer):
  newline, marker = tokenizer.piece_id("\n"), tokenizer.piece_id(marker_piece(3))
  assert tokenizer.encode("a\n\n")[-2:] == [newline, newline]
  assert tokenizer.encode("<loc0003>") == [marker]


def symbol_ids(tokenizer):
  symbols = ["\n", "<pad>", "<eos>", "<bos>", *map(marker_piece, range(4))]
  return {tokenizer.piece_id(symbol) for symbol in symbols}


WORDS_AND_SYMBOLS = st.lists(
  st.sampled_from(
    ["<loc0000>", "<loc0003>", "<bos>", "<pad>", "<", ">", "loc0001>", "\n", "a ", "<0x41>"]
  )
).map("".join)


@given(text=WORDS_AND_SYMBOLS | st.text())
def test_no_symbol_comes_out_of_plain_text(tokenizer, text):
  ids = tokenizer.encode_plain(text)
  assert not symbol_ids(tokenizer) & set(ids)
  assert tokenizer.decode(ids) == text.replace("\n", " ").replace("\u2581", " ")


def test_encode_does_yield_the_symbols_that_plain_text_must_not(tokenizer):
  assert symbol_ids(tokenizer) & set(tokenizer.encode("<loc0000>\n"))


def test_training_is_repeatable_and_silent(tmp_path, capfd):
  for name in ("a", "b"):
    train_tokenizer(TEXTS, tmp_path / name, vocab_size=340, num_markers=4)
  assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
  assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
  assert capfd.readouterr() == ("", "")


def test_a_small_corpus_gives_a_small_vocabulary(tmp_path):
  train_tokenizer(["ab"], tmp_path / "t.model", vocab_size=8000, num_markers=2)
  assert 256 < load_tokenizer(tmp_path / "t.model").vocab_size < 300


def test_long_texts_take_part(tmp_path):
  train_tokenizer(["zebra " * 2000], tmp_path / "t.model", vocab_size=300, num_markers=1)
  assert load_tokenizer(tmp_path / "t.model").piece_id("\u2581zebra")


def test_pickled_and_loaded_again_is_equal(tokenizer):
  copy = pickle.loads(pickle.dumps(tokenizer))
  assert copy == tokenizer and hash(copy) == hash(tokenizer)
  assert copy.encode("the dog") == tokenizer.encode("the dog")


def test_a_model_that_changed_under_a_pickle_is_refused(tmp_path):
  path = tmp_path / "t.model"
  train_tokenizer(TEXTS, path, vocab_size=340, num_markers=4)
  pickled = pickle.dumps(load_tokenizer(path))
  train_tokenizer(TEXTS, path, vocab_size=330, num_markers=4)
  with pytest.raises(InputError, match="changed"):
    pickle.loads(pickled)


@pytest.mark.parametrize(
  ("content", "message"), [(None, "No such file"), (b"junk", "not a SentencePiece model")]
)
def test_an_unusable_file_is_named(tmp_path, content, message):
  path = tmp_path / "t.model"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(InputError, match=rf"t\.model: .*{message}"):
    load_tokenizer(path)


def test_a_piece_that_is_none_is_named(tokenizer):
  with pytest.raises(InputError, match="no single piece 'two words'"):
    tokenizer.piece_id("two words")


@pytest.mark.parametrize(
  ("texts", "vocab_size", "message"), [([], 400, "no text"), (["abc"], 100, "vocab_size 100")]
)
def test_impossible_training_is_refused_and_writes_nothing(tmp_path, texts, vocab_size, message):
  with pytest.raises(InputError, match=message):
    train_tokenizer(texts, tmp_path / "t.model", vocab_size=vocab_size, num_markers=4)
  assert not list(tmp_path.iterdir())
