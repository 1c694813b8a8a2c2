"""Make glyphs-conv24.safetensors: a front for 8x8 handwriting that has seen no handwriting.

Draws 200 random glyphs (one to three random strokes each, none meant as a digit or letter), each
150 times with shaken strokes, slant, width and bends, in the manner of the 8x8 digits (32x32
pixels, 4x4 blocks counted); trains a small network to tell the glyphs apart; drops its head. No
data set is used, so the front costs no privacy. About two minutes on one core:

    python jobs/fronts/make_glyphs.py jobs/fronts/glyphs-conv24.safetensors
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import nn

from clicooper_hpc.fronts.layer_spec import build_layers, parse_layers
from clicooper_hpc.fronts.weights import WeightsDescription, save_weights

Points = NDArray[np.float64]

GLYPHS, DRAWINGS, EPOCHS, BATCH = 200, 150, 6, 128
SIDE, BLOCK, FINE = 32, 4, 2  # canvas, pixels a cell counts, oversampling
FEATURES = 24


def arc(rng: np.random.Generator, most: float) -> Points:
    """Return part of an ellipse as points ``[14, 2]`` in the unit square."""
    start = rng.uniform(0, 360)
    turn = rng.choice([-1, 1]) * rng.uniform(120, most)
    angle = np.radians(np.linspace(start, start + turn, 14))
    centre, radius = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.5, 2)
    points: Points = centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points


def glyph(rng: np.random.Generator) -> list[Points]:
    """Return the strokes of a random glyph."""
    strokes: list[Points] = []
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        kind = rng.random()
        if kind < 0.45:
            strokes.append(rng.random((rng.integers(2, 6), 2)))
        elif kind < 0.8:
            strokes.append(arc(rng, 360))
        else:
            strokes.append(np.concatenate([arc(rng, 330), rng.random((rng.integers(1, 3), 2))]))
    return strokes


def smooth(points: Points, count: int = 24) -> Points:
    """Return ``count`` points at equal distances along the stroke, corners rounded."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    place = np.linspace(0, length[-1], count)
    even = np.stack([np.interp(place, length, points[:, axis]) for axis in (0, 1)], axis=1)
    even[1:-1] = (even[:-2] + 2 * even[1:-1] + even[2:]) / 4
    return even


def shaken(strokes: list[Points], rng: np.random.Generator) -> list[Points]:
    """Return one person's version: shaken points, bends, slant, proportions, a little turn."""
    narrow, slant, turn = rng.uniform(0.55, 0.95), rng.normal(0.05, 0.18), rng.normal(0, 0.1)
    bend = rng.normal(size=(6, 2)) * np.array([0, 0.06, 0.06, 0.12, 0.12, 0.12])[:, None]
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    drawn: list[Points] = []
    for stroke in strokes:
        size = 0.045 if len(stroke) <= 10 else 0.027
        p = smooth(stroke + rng.normal(0, size, stroke.shape)) - 0.5
        x, y = p.T
        p = p + np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1) @ bend
        p = np.stack([narrow * p[:, 0] - slant * p[:, 1], p[:, 1]], axis=1)
        drawn.append(p @ rotation)
    return drawn


def draw(strokes: list[Points], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the strokes as 8x8 ink counts in [0, 1], filling the height of the canvas."""
    every = np.concatenate(strokes)
    low, high = every.min(axis=0), every.max(axis=0)
    width = rng.uniform(4, 9)
    room = SIDE - width
    tall = room / max(high[1] - low[1], 0.05)
    scale = np.array([min(tall, room / max(high[0] - low[0], 0.02)), tall])
    image = Image.new("L", (SIDE * FINE, SIDE * FINE), 0)
    pen, radius = ImageDraw.Draw(image), width * FINE / 2
    for stroke in strokes:
        points = ((stroke - (low + high) / 2) * scale + SIDE / 2) * FINE
        line = [(float(x), float(y)) for x, y in points]
        pen.line(line, fill=255, width=max(1, round(width * FINE)), joint="curve")
        for x, y in (line[0], line[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    cells = SIDE // BLOCK
    ink = np.asarray(image, dtype=np.float32).reshape(cells, BLOCK * FINE, cells, BLOCK * FINE)
    counts: NDArray[np.float32] = np.round(ink.mean(axis=(1, 3)) / 255 * 16) / 16
    return counts


def main() -> None:
    """Draw, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log = logging.getLogger("make_glyphs")
    rng = np.random.default_rng(0)
    glyphs = [glyph(rng) for _ in range(GLYPHS)]
    images = [draw(shaken(strokes, rng), rng) for _ in range(DRAWINGS) for strokes in glyphs]
    x = torch.from_numpy(np.stack(images))[:, None]
    y = torch.arange(GLYPHS).repeat(DRAWINGS)

    torch.set_num_threads(1)  # the same weights whatever the machine's core count
    torch.manual_seed(0)
    conv = {"type": "Conv2d", "kernel_size": 3, "padding": 1, "bias": False}
    layers = parse_layers(
        [
            {**conv, "in_channels": 1, "out_channels": 32},
            {"type": "BatchNorm2d", "num_features": 32},
            {"type": "ReLU"},
            {**conv, "in_channels": 32, "out_channels": 64},
            {"type": "BatchNorm2d", "num_features": 64},
            {"type": "ReLU"},
            {"type": "MaxPool2d", "kernel_size": 2, "stride": 2},
            {**conv, "in_channels": 64, "out_channels": 64},
            {"type": "BatchNorm2d", "num_features": 64},
            {"type": "ReLU"},
            {"type": "Flatten"},
            {"type": "Linear", "in_features": 1024, "out_features": FEATURES},
        ],
        where="layers",
    )
    body = build_layers(layers).train().requires_grad_(True)
    head = nn.Linear(FEATURES, GLYPHS)
    parameters = [*body.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=EPOCHS * steps)
    for epoch in range(EPOCHS):
        right = 0
        for batch in torch.randperm(len(x))[: steps * BATCH].reshape(steps, BATCH):
            scores = head(body(x[batch]))
            loss = nn.functional.cross_entropy(scores, y[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            right += int((scores.argmax(1) == y[batch]).sum())
        log.info("epoch %d of %d: %.1f %%", epoch + 1, EPOCHS, 100 * right / (steps * BATCH))
    trained_on = f"{GLYPHS} random glyphs drawn by make_glyphs.py, no handwriting, no data set"
    description = WeightsDescription(
        layers, (1, SIDE // BLOCK, SIDE // BLOCK), (0.0,), (1.0,), trained_on
    )
    tensors = {k: v for k, v in body.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_weights(out, description, tensors)


if __name__ == "__main__":
    main()
