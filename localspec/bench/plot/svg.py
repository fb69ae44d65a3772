"""Writes pictures as SVG: text that any browser shows."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from localspec.bench.plot.shapes import Dot, Line, Picture, Shape, Words

_FONT = "system-ui, 'Helvetica Neue', Arial, sans-serif"


def svg(picture: Picture) -> bytes:
    """The picture as an SVG document in UTF-8."""
    width, height = picture.width, picture.height
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label={quoteattr(_printable(picture.title))} font-family="{_FONT}">',
        f"<title>{_text(picture.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *map(_shape, picture.shapes),
        "</svg>",
    ]
    return ("\n".join(lines) + "\n").encode()


def _shape(shape: Shape) -> str:
    if isinstance(shape, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        return (
            f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}" '
            'stroke-linejoin="round"/>'
        )
    if isinstance(shape, Dot):
        return f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius:g}" fill="{shape.colour}"/>'
    return _words(shape)


def _words(words: Words) -> str:
    turn = f' transform="rotate(-90 {words.x:.1f} {words.y:.1f})"' if words.turned else ""
    return (
        f'<text x="{words.x:.1f}" y="{words.y:.1f}" text-anchor="{words.anchor}" font-size="{words.size:g}" '
        f'fill="{words.colour}"{turn}>{_text(words.text)}</text>'
    )


def _text(text: str) -> str:
    return escape(_printable(text))


def _printable(text: str) -> str:
    """Without control characters and lone surrogates, which no XML may hold."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
