"""Words of English captions, split as in the Penn Treebank.

The published caption figures come from `pycocoevalcap`, which splits captions with a Java program,
Stanford's PTBTokenizer 3.4.1, in lower case, and then drops `PUNCTUATION`. This module gives the
same words for ordinary captions, the habits that are odd included: "-lrb-" for a bracket, "!!" and
"?!" kept, emoji dropped. docs/language_metrics.md says how far that was checked.
"""

from __future__ import annotations

import re

PUNCTUATION = frozenset(
  {"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--"}
  | {"...", ";"}
)

# Words that keep a period behind them.
_ABBREVIATIONS = (
  "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri "
  "ala ariz calif col colo conn ct fla ga ind kan ky md mich minn mo mont neb nev okla penn tenn "
  "va vt wis wyo "
  "mr mrs ms dr drs prof sen rep lt gen gov adm rev maj sgt cpl pvt mt capt st ave pres hon brig "
  "supt det insp jr sr bros blvd rd esq bldg inc co corp ltd plc dept assn asst univ intl tel est "
  "ext sq ft etc al seq vs cf"
)
_CAPITALISED_ABBREVIATIONS = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"
_BEFORE_NUMBERS = "no nos ca fig op pp prop"
_SPLIT_WORDS = {
  "cannot": "can not",
  "gonna": "gon na",
  "gotta": "got ta",
  "wanna": "wan na",
  "lemme": "lem me",
  "gimme": "gim me",
  "'tis": "'t is",
  "'twas": "'t was",
}
_CHARACTERS = {
  "(": "-lrb-",
  ")": "-rrb-",
  "[": "-lsb-",
  "]": "-rsb-",
  "{": "-lcb-",
  "}": "-rcb-",
  "¢": "cents",
  "£": "#",
  "€": "$",
  "¼": "1/4",
  "½": "1/2",
  "¾": "3/4",
  "⅓": "1/3",
  "\u2026": "...",
  **dict.fromkeys("\u2018\u201b\u2039", "`"),
  **dict.fromkeys("\u2019\u203a", "'"),
  **dict.fromkeys("\u201c\u00ab", "``"),
  **dict.fromkeys('\u201d\u00bb"', "''"),
  **dict.fromkeys("\u2013\u2014\u2015", "--"),
}
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": "''", "&apos;": "'", "&nbsp;": " "}

_L = r"(?:[^\W\d_]|[\u0300-\u036f\u00ad])"  # a letter
_A = r"['\u2019]"  # an apostrophe
_B = r"['\u2019\u2018\u201b]"  # what may stand for one inside a word
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+"
_NUMBER = r"(?:\d+(?:[.:,]\d+)*|(?:[.,]\d+)+)"
_PART = rf"(?:[dol]{_B}(?:{_L}|\d))?(?:{_L}|\d)+"
_HYPHENATED = rf"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:{_ACRONYM}\.|[A-Za-z0-9]+))+"
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"


def _any(words: str) -> str:
  return "(?:" + "|".join(sorted(words.split(), key=len, reverse=True)) + ")"


# (pattern, what must follow). As in a lexer the longest match counts, with what follows it; of
# equally long ones the first.
_PATTERNS = [
  (rf"{_any(' '.join(_SPLIT_WORDS))}", ""),
  (r"<[/!?]?[A-Za-z][^<>]*>", ""),
  (rf"{_L}+", rf"{_A}(?:re|ve|ll|[msd])"),
  (r"[A-Za-z]*[A-MO-Za-mo-z]", rf"n{_B}t"),
  (rf"{_L}+(?:[.!?]{_L}+)*", ""),
  (rf"{_A}n{_A}?", ""),
  (rf"[ldj]{_A}", ""),
  (rf"(?:ol|\w+thin){_A}", ""),
  (rf"(?-i:[A-HJ-XZn]){_B}{_L}{{2,}}", ""),
  (rf"{_A}(?:[2-9]0s|till?|em|cause)", ""),
  (rf"{_L}+[aeiouy]{_B}(?:[aeiou]|(?-i:[A-Z])){_L}*", ""),
  (r"c'mon|n?e'er|li'l", ""),
  (rf"y{_A}", _L),
  (r"(?:https?://|www\.)\S*[\w/]", ""),
  (r"(?:[\w-]+\.)+(?:com|net|org|edu)(?:/\S+[\w/])?", ""),
  (r"[A-Za-z0-9][\w.+-]*@[\w-]+(?:\.[\w-]+)*", ""),
  (rf"[@#]{_L}\w*", ""),
  (rf"{_A}(?:re|ve|ll|[msd])", r"[^A-Za-z]"),
  (rf"n{_B}t", ""),
  (r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", ""),
  (rf"[-+]?{_NUMBER}", ""),
  (r"[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+", ""),
  (r"(?:\d{1,4}[- ])?\d{1,4}/\d{1,4}", ""),
  (rf"{_SLASHED}(?:/{_SLASHED}){{1,2}}", ""),
  (r"(?-i:[A-Z]*)\$|#", ""),
  (rf"{_any(_ABBREVIATIONS)}\.", ""),
  (rf"(?-i:{_any(_CAPITALISED_ABBREVIATIONS)})\.", ""),
  (rf"{_any(_BEFORE_NUMBERS)}\.", r"[ ]?\d"),
  (rf"(?:{_ACRONYM}|[A-Za-z]|(?:ph|ed)\.d)\.", ""),
  (rf"{_ACRONYM}", r"\s"),
  (rf"{_A}\d\d", r"\s"),
  (rf"{_L}+\.", r"[,;:]"),
  (r"\(\d{3}\) ?\d{3}[- .]\d{4}|\d{3}[- .]\d{3}[- .]\d{4}", ""),
  (r"[:;=]-?[()DP]", r"(?![A-Za-z])"),
  (r"\^_\^", ""),
  (r"c\+\+|[cf]#|&(?:lt|gt|amp|quot|apos|nbsp);", ""),
  (r"\.{3,5}|(?:\. ){2,4}\.", ""),
  (r"@+|#+|_+|\*+", ""),
  (r"[?!]+", ""),
  (rf"{_HYPHENATED}\.", r"[,;:]"),
  (_HYPHENATED, ""),
  (rf"{_PART}(?:[-_\u2010\u2011]{_PART})*\.", r"[,;:]"),
  (rf"{_PART}(?:[-_\u2010\u2011]{_PART})*", ""),
  (r"(?-i:[A-Z]+(?:[+&][A-Z]+)+)", ""),
  (r"'", r"[A-Za-z]\S"),
  (rf"{_A}(?:re|ve|ll|[msd])", ""),
  (r"''|``|[`'\u2018-\u201f\u00ab\u00bb\u2039\u203a]", ""),
]
_RULES = [
  (re.compile(pattern, re.I), re.compile(after, re.I) if after else None)
  for pattern, after in _PATTERNS
]
# Most of a caption, for which no rule need be tried: words, and single marks between them.
_PLAIN = re.compile(r"[A-Za-z]+(?=[,?!]?\s)|[A-Za-z]{2,}(?=\.\s)|[.,?!\s](?=\s)|\s")
_NOT_PLAIN = frozenset(
  f"{_ABBREVIATIONS} {_CAPITALISED_ABBREVIATIONS} {_BEFORE_NUMBERS}".lower().split()
) | frozenset(_SPLIT_WORDS)
_CONTRACTION = re.compile(rf"(?:n{_B}t|{_A}(?:re|ve|ll|[msd]))", re.I)
_SYMBOL = re.compile(
  r"[!-/:-@\[-`{-~\u00a1-\u00ac\u00ae-\u00bf\u00d7\u00f7\u2010-\u2027\u2030-\u205e\u2070-\u218f"
  r"\u2190-\u23ff\u2600-\u26ff]"
)


def words(caption: str) -> list[str]:
  """The words of a caption in lower case, without punctuation; line breaks count as spaces."""
  text = " ".join(caption.split()) + "\n"
  found, position = [], 0
  while position < len(text):
    plain = _PLAIN.match(text, position)
    if plain and plain.group().lower() not in _NOT_PLAIN:
      found += plain.group().lower().split()
      position = plain.end()
    else:
      token, position = _longest_token(text, position)
      found += token.split()
  return [word for word in found if word not in PUNCTUATION]


def _longest_token(text: str, position: int) -> tuple[str, int]:
  longest, end, best = 0, position + 1, None
  for rule, after in _RULES:
    match = rule.match(text, position)
    follows = match and (after.match(text, match.end()) if after else match)
    if follows and follows.end() - position > longest:
      longest, end, best = follows.end() - position, match.end(), rule
  token = text[position:end]
  if best is _RULES[0][0]:
    return _SPLIT_WORDS[token.lower()], end
  return _spelled(token), end


def _spelled(token: str) -> str:
  """A token as the treebank spells it; "" for a character that no rule knows."""
  lowered = token.lower()
  if lowered in _ENTITIES:
    return _ENTITIES[lowered]
  if _CONTRACTION.fullmatch(token):
    return re.sub(_B, "'", lowered)
  if len(token) == 1 and not (token.isalnum() or _SYMBOL.fullmatch(token)):
    return ""
  if re.fullmatch(r"-{3,4}|\.{3,}", token):
    return "--" if token[0] == "-" else "..."
  return "".join(_CHARACTERS.get(character, character) for character in lowered)
