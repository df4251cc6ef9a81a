"""HTML out of the templates beside this module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
  """The page; text is escaped, and a value that the template asks for and is not there raises."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template(template).render(**values)
