"""HTML out of templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2


def render(template: Path, **values: Any) -> str:
  """The page that a template gives; it may import others of its folder.

  Text is escaped, and a value that the template asks for and is not there raises.
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(template.parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template(template.name).render(**values)
