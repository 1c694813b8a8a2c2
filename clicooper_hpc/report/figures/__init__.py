"""Figures of the page, one module a figure: plain values in, inline SVG out."""
