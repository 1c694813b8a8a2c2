"""Matplotlib figures as SVG for the inside of a page: the page's colours, light and dark.

Figures are drawn with the colours of `INK`, which name CSS variables of the page; here they become
those variables. Text stays text (readers, search, the page's font), never a formula. The same
figure gives the same bytes: ids follow from its name, and there is no date in it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

from clicooper_hpc.runstore.quiet_matplotlib import quiet_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "SERIES", "figure_svg", "new_figure"]

#: Colour that figures draw with, by the CSS variable of the page that it stands for.
INK: Final = {
    "ink": "#000001",
    "muted": "#000002",
    "grid": "#000003",
    "paper": "#000004",
    "on-fill": "#000005",
    "blue": "#000011",
    "orange": "#000012",
    "green": "#000013",
    "purple": "#000014",
    "sky": "#000015",
    "yellow": "#000016",
    "red": "#000017",
}
#: Colours of lines, in order; their dashes differ as well, for those who see no colours.
SERIES: Final = ("blue", "orange", "green", "purple", "sky", "red", "yellow")
_VARIABLES: Final = {value: f"var(--{name})" for name, value in INK.items()}
_COLOUR: Final = re.compile(r"#0000(?:0[1-5]|1[1-7])")
#: The page's font, whichever of both ways matplotlib names its own.
_FONT: Final = re.compile(r"font: ([\d.]+px) [^;]*")
_FAMILY: Final = re.compile(r"font-family: [^;]*;? ?")
_SVG: Final = "http://www.w3.org/2000/svg"
_XLINK: Final = "http://www.w3.org/1999/xlink"
_ID: Final = re.compile(r"#([\w-]+)")
_STYLE: Final = {
    "svg.fonttype": "none",
    # Widths of text are measured in this font; the page's own is no wider.
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": INK["ink"],
    "axes.edgecolor": INK["muted"],
    "axes.labelcolor": INK["ink"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "grid.color": INK["grid"],
    "grid.linewidth": 0.6,
    "xtick.color": INK["muted"],
    "ytick.color": INK["muted"],
    "xtick.labelcolor": INK["ink"],
    "ytick.labelcolor": INK["ink"],
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
}


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure of ``width`` x ``height`` inches, in the style of the page.

    The style is that of this module whatever the user's matplotlibrc says.
    """
    with quiet_matplotlib():
        from matplotlib import style
        from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):
        yield Figure(figsize=(width, height), layout="constrained")


def figure_svg(figure: Figure, name: str, *, description: str) -> str:
    """Return ``figure`` as an ``<svg>`` element; call it inside `new_figure`.

    Parameters
    ----------
    name
        Unlike those of the other figures of the page: its ids begin with it.
    description
        What a reader hears who sees no pictures.
    """
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    # Matplotlib's own output a line above, nothing of others.
    root = ElementTree.fromstring(stream.getvalue())  # noqa: S314
    _settle_tree(root, name)
    root.attrib.pop("width")
    root.attrib.pop("height")
    root.attrib.update({"role": "img", "aria-label": description})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _settle_tree(root: ElementTree.Element, name: str) -> None:
    """Put variables for colours, drop what a page does not need, keep ids apart."""
    used = {
        found
        for element in root.iter()
        for key, value in element.attrib.items()
        if key != "id"
        for found in _ID.findall(value)
    }
    for parent in list(root.iter()):
        for child in list(parent):
            # Metadata says nothing here; the style sheet would be that of the whole page.
            if child.tag == f"{{{_SVG}}}metadata" or (
                child.tag == f"{{{_SVG}}}defs" and child.find(f"{{{_SVG}}}style") is not None
            ):
                parent.remove(child)
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id" and value not in used:
                del element.attrib[key]
            elif key == "id":
                element.set(key, f"{name}-{value}")
            elif key == "style":
                plain = _FAMILY.sub("", _FONT.sub(r"font-size: \1", value))
                element.set(key, _in_variables(plain, name))
            elif key in ("clip-path", f"{{{_XLINK}}}href"):
                element.set(key, value.replace("#", f"#{name}-"))
            elif key in ("fill", "stroke"):
                element.set(key, _in_variables(value, name))


def _in_variables(style: str, name: str) -> str:
    coloured = _COLOUR.sub(lambda found: _VARIABLES[found.group()], style)
    return coloured.replace("url(#", f"url(#{name}-")
