"""The base of objects that show themselves: as HTML in Jupyter, as text elsewhere."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from twlab.report.html.filling import environment


class Shown:
    """An object with a text (`str`) and a template; `repr` is its text.

    A notebook prefers `_repr_html_`. Nothing in it comes from another host, no script runs, and the
    colours follow the notebook's theme.
    """

    template = ""  # in the folder `templates`

    def text(self) -> str:
        """Return it as lines of text."""
        raise NotImplementedError

    def values(self) -> dict[str, Any]:
        """Return what the template shows."""
        return {}

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return render(self.template, **self.values())


def render(template: str, **values: Any) -> str:
    """Return a template of this package, filled in, in a block with their style."""
    made = environment("twlab.notebook")
    inner = Markup(made.get_template(template).render(**values))
    return made.get_template("block.html.j2").render(inner=inner)
