"""A small WordNet of our own, in the format of WordNet 3's database."""

import itertools

# sense: (words, parents). A word's senses count in the order in which they stand here.
NOUNS = {
  "entity": (["entity"], []),
  "thing": (["thing"], ["entity"]),
  "animal": (["animal", "beast"], ["thing"]),
  "dog": (["dog", "hound"], ["animal"]),
  "cat": (["cat"], ["animal"]),
  "puppy": (["puppy"], ["dog"]),
  "person": (["person", "man"], ["thing"]),
  "friend": (["friend"], ["person"]),
  # Two ways up, of different lengths.
  "pet": (["pet"], ["animal", "friend"]),
  "vehicle": (["vehicle"], ["thing"]),
  "car": (["car", "automobile"], ["vehicle"]),
  "fire_dog": (["dog", "firedog"], ["vehicle"]),
  "ice_cream": (["ice_cream"], ["entity"]),
}
VERBS = {
  "move": (["move", "go"], []),
  "run": (["run"], ["move"]),
  "sprint": (["sprint"], ["run"]),
  "think": (["think"], []),
  "bark": (["dog", "bark"], ["think"]),
}


def write(folder, *, nouns=NOUNS, verbs=VERBS):
  """Writes index.noun, data.noun, noun.exc, index.verb and data.verb."""
  folder.mkdir(exist_ok=True)
  _write_part(folder, "noun", "n", nouns)
  _write_part(folder, "verb", "v", verbs)
  (folder / "noun.exc").write_text("men man\n")
  return folder


def _write_part(folder, name, letter, senses):
  # Offsets have eight digits, so lines keep their lengths when the offsets are filled in.
  licence = "  1 This line, like those of the licence, is indented.\n"
  sizes = [len(_data_line(letter, 0, words, [0] * len(up))) for words, up in senses.values()]
  starts = itertools.accumulate(sizes, initial=len(licence))
  offsets = dict(zip(senses, starts, strict=False))
  (folder / f"data.{name}").write_text(
    licence
    + "".join(
      _data_line(letter, offsets[sense], words, [offsets[parent] for parent in up])
      for sense, (words, up) in senses.items()
    )
  )
  by_word = {}
  for sense, (words, _) in senses.items():
    for word in words:
      by_word.setdefault(word, []).append(offsets[sense])
  (folder / f"index.{name}").write_text(
    licence
    + "".join(
      f"{word} {letter} {len(found)} 1 @ {len(found)} 0 "
      + " ".join(f"{offset:08d}" for offset in found)
      + "  \n"
      for word, found in sorted(by_word.items())
    )
  )


def _data_line(letter, offset, words, parents):
  spelled = " ".join(f"{word} 0" for word in words)
  pointers = "".join(f"@ {parent:08d} {letter} 0000 " for parent in parents)
  frames = "00 " if letter == "v" else ""
  counted = f"{len(words):02x} {spelled} {len(parents):03d}"
  return f"{offset:08d} 03 {letter} {counted} {pointers}{frames}| a gloss  \n"
