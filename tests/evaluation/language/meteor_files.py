"""Word lists of our own in the form of METEOR's, so that all its matchers are at work in tests."""

import gzip
import zipfile

FUNCTION_WORDS = ("the", "a", "an", "of", "in", "on", "and", "to", "is", "are", "with", "at", "it")
ABBREVIATIONS = "# a comment\n\nvs\ne.g\nNo #NUMERIC_ONLY#\n"
SYNSETS = {
  "child": [1],
  "kid": [1, 2],
  "youngster": [1],
  "joke": [2],
  "car": [3],
  "automobile": [3],
  "auto": [3],
  "talk": [4],
  "speak": [4],
  "sell": [5],
  "horse": [6],
  "woman": [7],
  "lady": [7],
  "person": [8],
  "people": [8],
  "cook": [9],
  "chef": [9],
  "slice": [10],
  "cut": [10],
  "quickly": [11],
  "quick": [11],
  "onion": [12],
  "vegetable": [12, 13],
  "tomato": [13],
}
EXCEPTIONS = {"woman": ["women"], "child": ["children"], "knife": ["knives"], "be": ["is", "are"]}
PARAPHRASES = [
  ("a large number of", "many"),
  ("a large number of", "lots of"),
  ("taking part in", "participate in"),
  ("take part in", "participate in"),
  ("someone", "a man"),
  ("a man", "someone"),
  ("cat sleeps", "kitten is asleep"),
  ("turn soft", "is soft"),
  ("golden", "soft"),
  ("is cutting", "is slicing"),
  ("a group of people", "two teams"),
  ("people playing football", "boys are playing football"),
  ("the us", "u.s."),
  ("rides", "is riding"),
  ("is riding", "rides"),
  ("and", "along with"),
]


def write(folder):
  """Writes meteor-1.5.jar and data/paraphrase-en.gz."""
  (folder / "data").mkdir(parents=True)
  with zipfile.ZipFile(folder / "meteor-1.5.jar", "w") as jar:
    for name, content in contents().items():
      jar.writestr(name, content)
  with gzip.open(folder / "data" / "paraphrase-en.gz", "wt") as table:
    table.write(paraphrases())
  return folder


def contents():
  return {
    "function/english.words": "\n".join(FUNCTION_WORDS) + "\n",
    "nonbreaking/english.prefixes": ABBREVIATIONS,
    "synonym/english.synsets": "".join(
      f"{word}\n{' '.join(map(str, numbers))}\n" for word, numbers in SYNSETS.items()
    ),
    "synonym/english.exceptions": "".join(
      f"{base}\n{' '.join(forms)}\n" for base, forms in EXCEPTIONS.items()
    ),
  }


def paraphrases():
  return "".join(f"0.5\n{phrase}\n{other}\n" for phrase, other in PARAPHRASES)
