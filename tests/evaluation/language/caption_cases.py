"""Captions and their references, written for these tests, easy ones and nasty ones."""

CASES = {
  "same": ("a man rides a horse", ["a man rides a horse"]),
  "near": ("A man is riding a horse.", ["A man rides a horse on the beach.", "Someone rides."]),
  "order": ("a horse a man rides", ["a man rides a horse", "the man is riding the horse"]),
  "nothing": ("blue paint", ["A cat sleeps.", "The kitten is asleep on a chair."]),
  "one word": ("cooking", ["a woman is cooking", "cooking", "the cook cooks"]),
  "one of one": ("Cooking.", ["cook"]),
  "two words": ("a dog", ["a dog", "dog", "the dogs run"]),
  "repeats": (
    "the the the the the the the",
    ["the cat is on the mat", "there is a cat on the mat"],
  ),
  "stems": (
    "dogs running quickly and jumped",
    ["A dog runs quick and is jumping.", "the running dog jumps"],
  ),
  "synonyms": (
    "a kid is talking to an automobile salesman",
    ["a child speaks with a man who sells a car", "the youngster talks to the auto dealer"],
  ),
  "paraphrase": (
    "a large number of people are taking part in the race",
    ["many people participate in a race", "lots of runners take part in the contest"],
  ),
  "contractions": (
    "The boy doesn't want to go, he can't swim and he's crying.",
    ["A boy who can not swim does not want to go.", "he's afraid, isn't he? I'm sure they'll wait"],
  ),
  "possessive": ("the dog's owner's hat", ["The hat of the dog's owner", "the dogs' owners' hats"]),
  "hyphens": (
    "a black-and-white T-shirt and a twenty-five-year-old man",
    ["a black and white t-shirt", "A 25-year-old man in a black-and-white tee-shirt"],
  ),
  "abbreviations": (
    "Mr. Smith flew to the U.S. at 5 p.m. on Jan. 5",
    ["Mr Smith flies to the US at 5 pm", "a man, e.g. Dr. Smith, is in the U.S."],
  ),
  "quotes": (
    "A sign says \"stop\" and 'slow'.",
    ["the sign reads 'STOP'", "A “stop” sign and a ‘slow’ sign"],
  ),
  "numbers": (
    "3 men and 2.5 litres, 10% of 4,000 at 10:30",
    ["three men with 4,000 bottles", "3 men at 10:30 with 2.5 litres (10 %)"],
  ),
  "money": ("it costs $5.00 or £4", ["it costs $5", "the price is 5 dollars"]),
  "brackets": ("a man (in red) runs", ["a man in red runs", "a man [in red] runs (fast)"]),
  "marks": ("Wow!! Really?! Yes...", ["wow really yes", "Wow! Really? Yes -- really."]),
  "slashes": ("he/she adds salt and/or pepper", ["he or she adds salt and pepper", "salt/pepper"]),
  "accents": (
    "a café in Zürich serves crème brûlée",
    ["the cafe in Zürich", "a Café serves creme"],
  ),
  "scripts": ("北京 is shown, привет мир", ["北京 is a city", "привет is written"]),
  "emoji": ("a happy dog 😀 runs", ["a happy dog runs", "😀 the dog"]),
  "empty": ("", ["a man walks", "nothing happens"]),
  "only marks": ("...", ["a man walks.", "there is nothing to see"]),
  "commas": ("red, white, and blue flags", ["red white and blue flags", "flags, red and white"]),
  "colloquial": ("they're gonna dance, y'all", ["they are going to dance", "you cannot dance"]),
  "spaces": ("  two   spaces \t and a tab ", ["two spaces and a tab", "spaces"]),
  "upper": ("A MAN IN A HAT SITS ON NASA'S ROCKET", ["a man in a hat sits on a rocket", "NASA"]),
  "ampersand": ("R&B music by A & B at AT&T", ["r&b music", "music by A and B at AT&T"]),
  "web": ("the site www.example.com shows #cats", ["www.example.com is shown", "cats on a site"]),
  "plural": ("women and children with knives", ["a woman and a child with a knife", "people"]),
  "cross": ("a b a b a", ["b a b a b", "a a b b a"]),
  "functions": ("of the in and to", ["the of and in a", "it is to be in the"]),
  "five references": (
    "a group of people playing football on a field",
    [
      "people play soccer on a grass field",
      "A group of boys are playing football.",
      "two teams compete in a football match",
      "the players run after the ball",
      "A soccer game is being played on the field by a group of people.",
    ],
  ),
  "long": (
    "the chef first chops the onions and the garlic and then he heats the oil in the pan and adds "
    "the onions and the garlic to the pan and stirs the onions and the garlic until the onions are "
    "golden and the garlic is soft and then he pours the sauce over the onions and serves the dish",
    [
      "the chef heats oil in a pan, adds chopped onions and garlic, and stirs until golden",
      "First he chops onions and garlic; then he fries them in the oil until the onions turn soft, "
      "pours a sauce over them and serves the dish on a plate with the rest of the garlic.",
    ],
  ),
  "long for short": ("a man is walking down the street with his dog and his son", ["a man walks"]),
  "short for long": ("a man", ["a man is walking down the street with his dog and his son"]),
  "video": (
    "a woman is slicing a red tomato with a knife",
    [
      "A woman slices a tomato.",
      "the lady is cutting tomatoes into thin pieces",
      "someone is cutting a vegetable",
    ],
  ),
}
