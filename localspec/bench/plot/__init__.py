"""Charts without a plotting library: laid out as shapes, written as SVG or drawn in a terminal."""
