"""An attacker's own images, released as the owner releases: the training data of most attacks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import NO_SAMPLE_LEFT, AdversaryView
from clicooper_hpc.errors import UsageError

__all__ = ["cannot_make_shadow_rows", "clean_shadow_rows", "release_shadow_rows", "shadow_inputs"]

# Wide rows of all images at once would not fit; the front computes each row by itself anyway.
_PASS_ROWS = 1024


def cannot_make_shadow_rows(view: AdversaryView) -> str | None:
    """Say why a party cannot make rows like those it was given; None if it can."""
    if not len(view.rows):
        # Without rows there is nothing that shadow data would have to resemble.
        return "the party was given no rows"
    if view.summed:
        return NO_SAMPLE_LEFT
    if view.front is None:
        return "the front is not public"
    if not view.adversary.segments or view.adversary.segments[0] != 1:
        return "the party lacks the segments before its rows"
    return None


def clean_shadow_rows(view: AdversaryView, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return clipped rows without noise, float32 [n, ...], of images [n, channels, height, width].

    Raises
    ------
    UsageError
        The front is not public.
    """
    if view.front is None:
        raise UsageError(
            "the front is secret, so nobody but the owner makes rows of images", where="attack"
        )
    front = view.front
    return np.concatenate(
        [
            view.clip(front(images[start : start + _PASS_ROWS]))
            for start in range(0, len(images), _PASS_ROWS)
        ]
    )


def shadow_inputs(view: AdversaryView, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what an attacker's own network works on: rows of a public front, else images."""
    return images if view.front is None else clean_shadow_rows(view, images)


def release_shadow_rows(
    view: AdversaryView,
    clean: NDArray[np.float32],
    classes: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Add the mechanism's noise; where trainers get means of k rows, average like they do.

    Parameters
    ----------
    view
        Tells the noise and k.
    clean
        float32 [n, ...], clipped rows.
    classes
        int64 [n]; rows are averaged with rows of their own class, as groups share a sub-label.
    rng
        Of noise and mates.

    Returns
    -------
    NDArray[np.float32]
        [n, ...]; row i contains sample i, for k > 1 together with k - 1 others.
    """
    sigma, size = view.mechanism.sigma, _shadow_group_size(view)
    # Fresh noise of the public mechanism: a classifier trained on clean rows would blame noise for
    # what its own training lacked.
    rows = clean + rng.normal(0, sigma, clean.shape).astype(np.float32)
    # Where trainers train on single rows nothing is averaged.
    if size == 1:
        return rows
    total = rows.copy()
    for one in np.unique(classes):
        members = np.flatnonzero(classes == one)
        order = rng.permutation(members)
        # A shift along a random cycle: every mate is another sample if there are enough.
        place = np.empty(len(classes), dtype=np.int64)
        place[order] = np.arange(len(order))
        for step in range(1, size):
            total[members] += rows[order[(place[members] + step) % len(order)]]
    return (total / size).astype(np.float32)


def _shadow_group_size(view: AdversaryView) -> int:
    return max(1, view.groups.shape[1]) if view.groups.ndim == 2 else 1
