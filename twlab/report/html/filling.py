"""Fills in templates: those of this package, and of others that make pages."""

from __future__ import annotations

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twlab.observation import plain
from twlab.report.html import wording
from twlab.report.ladder import svg as ladder_svg


@cache
def environment(*packages: str) -> Environment:
    """Return what fills in the templates of `packages`; it compiles each once.

    All is escaped, and a value that is missing is an error.

    Args:
        packages: a template is taken from the first that has it.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(words=wording, plain=plain, ladder_style=Markup(ladder_svg.STYLE))
    return made
