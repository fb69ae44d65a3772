"""Pictures without a plotting library: charts laid out as shapes, written as SVG or PNG, or drawn in a terminal."""
