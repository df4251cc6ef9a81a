"""A page of HTML, taken apart."""

from html.parser import HTMLParser

VOID = {"meta", "img", "input", "br", "line", "rect"}


class Page(HTMLParser):
  """Elements as (tag, attributes, text), and whether every tag was closed."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.open = [], []
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attributes):
    self.elements.append([tag, dict(attributes), ""])
    if tag not in VOID:
      self.open.append(len(self.elements) - 1)

  def handle_endtag(self, tag):
    if tag not in VOID:
      assert self.elements[self.open.pop()][0] == tag

  def handle_data(self, data):
    for index in self.open:
      self.elements[index][2] += f" {data}"

  def find(self, tag, css_class=None):
    return [
      (attributes, " ".join(text.split()))
      for name, attributes, text in self.elements
      if name == tag and (css_class is None or css_class in attributes.get("class", "").split())
    ]
