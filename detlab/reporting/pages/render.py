"""A template and its values, made into text."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """`templates/<template>` filled in. Values are escaped; a value that the template asks for and is not given is an
    error."""
    environment = Environment(
        loader=PackageLoader("detlab.reporting.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
