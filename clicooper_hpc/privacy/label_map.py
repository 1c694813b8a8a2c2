"""The label map: gamma secret names for each class, and the way back.

Trainers see sub-labels in [0, gamma K). Which of them name the same class is a secret permutation.
How the samples of a class spread over its names is the method:

``none``
    gamma = 1, sub-label = class. No secret.
``random``
    By a keyed pseudo-random function of the sample id. Where the noise is low, grouping the
    sub-labels' mean rows finds the classes.
``anchors``
    By the Voronoi cell of the released row, other cells for each class (`privacy.anchors`).

No method is differential privacy of labels; `clicooper_hpc.privacy.randomized_response` is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from clicooper_hpc.errors import UsageError
from clicooper_hpc.privacy.anchors import Anchors, fit_anchors
from clicooper_hpc.privacy.keyed_stream import KeyedStream, keyed_words_below
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.permutation import secret_permutation

__all__ = ["LabelMap", "LabelMethod"]

LabelMethod = Literal["none", "random", "anchors"]

_FORMAT = "clicooper label map 1"


class LabelMap:
    """The owner's secret naming of classes. Made by `draw_label_map`, never printed.

    Parameters
    ----------
    method, num_classes, expansion
        How samples spread, K, and gamma.
    permutation
        int64 [K gamma]; name ``permutation[class * gamma + j]`` is the j-th of its class.
    spread_key
        32 bytes of the pseudo-random function.
    fitted
        Fitted anchors; None until `with_anchors`, and for the other methods.
    """

    __slots__ = (
        "_classes_of_names",
        "_fitted",
        "_permutation",
        "_spread_key",
        "expansion",
        "method",
        "num_classes",
    )

    def __init__(
        self,
        method: LabelMethod,
        num_classes: int,
        expansion: int,
        *,
        permutation: NDArray[np.int64],
        spread_key: bytes,
        fitted: Anchors | None = None,
    ) -> None:
        if method not in get_args(LabelMethod) or num_classes < 1 or expansion < 1:
            raise UsageError(
                f"label map {method!r} with {expansion} names for each of {num_classes} classes",
                where="labels",
                remedy=f"Give a method of {get_args(LabelMethod)} and an expansion of at least 1.",
            )
        # Several names a class need a method that spreads samples over them.
        if method == "none" and expansion != 1:
            raise UsageError(
                f"expansion {expansion} without a method",
                where="labels.method",
                remedy="Use method 'random' or 'anchors', or expansion 1.",
            )
        names = num_classes * expansion
        # Its size first: a file may claim any number of names, and all would be counted up.
        fits = names < 2**31 and permutation.shape == (names,)
        if not fits or not np.array_equal(np.sort(permutation), np.arange(names)):
            raise ValueError(f"a label map needs a permutation of its {names} names")
        self.method: LabelMethod = method
        self.num_classes = num_classes
        self.expansion = expansion
        self._permutation = permutation
        self._spread_key = spread_key
        self._fitted = fitted
        self._classes_of_names = np.empty(names, dtype=np.int64)
        self._classes_of_names[permutation] = np.arange(names) // expansion

    @classmethod
    def draw_label_map(
        cls, method: LabelMethod, num_classes: int, expansion: int, master_key: MasterKey
    ) -> LabelMap:
        """Make the map of a master key; ``anchors`` must be fitted before use."""
        names = num_classes * expansion
        permutation = np.arange(max(names, 0), dtype=np.int64)
        if method != "none":
            # Neighbouring numbers would show which names are of one class.
            permutation = secret_permutation(names, master_key.derive_key("label-permutation"))
        return cls(
            method,
            num_classes,
            expansion,
            permutation=permutation,
            spread_key=master_key.derive_key("label-spread"),
        )

    def __repr__(self) -> str:
        fitted = ", fitted" if self._fitted is not None else ""
        names = f"{self.num_classes} classes x {self.expansion} names"
        return f"LabelMap({self.method!r}, {names}{fitted})"

    @property
    def num_sub_labels(self) -> int:
        """Number of names the trainers see, gamma K."""
        return self.num_classes * self.expansion

    @property
    def pools(self) -> bool:
        """Whether logarithms of names' probabilities are averaged, or else these are added up.

        `clicooper_hpc.owner.class_pooling` does either, and says why.
        """
        return self.method == "random"

    @property
    def ready(self) -> bool:
        """Whether sub-labels can be given: False for what must be fitted until it is."""
        return self.method != "anchors" or self._fitted is not None

    def with_anchors(self, points: NDArray[np.float32], classes: NDArray[np.int64]) -> LabelMap:
        """Return this map with anchors fitted to released rows.

        Store it (`to_private_bytes`) before a sub-label leaves: linear algebra differs in the last
        bits between machines, stored anchors do not.

        Parameters
        ----------
        points
            float32 [n, d], `summarise_for_anchors` of released rows.
        classes
            int64 [n], their classes after randomised response, if that is on.
        """
        if self.method != "anchors":
            raise ValueError(f"method {self.method!r} has no anchors")
        # All 256 bits of the key: whoever can try all seeds knows the anchors.
        seed = int.from_bytes(self._key("anchors"), "big")
        return self._with(fit_anchors(points, classes, self.num_classes, self.expansion, seed))

    def map_to_sub_labels(
        self,
        classes: NDArray[np.int64],
        ids: NDArray[np.int64],
        released_rows: NDArray[np.float32] | None = None,
        *,
        split: str,
    ) -> NDArray[np.int32]:
        """Return the names of samples: int32 [n], the same whenever asked.

        Parameters
        ----------
        classes
            int64 [n] in [0, K), after randomised response if that is on.
        ids
            int64 [n], sample ids within the split.
        released_rows
            float32 [n, ...] as released; needed by ``anchors``.
        split
            The ids' split. ``random`` spreads each split by a function of its own: with a common
            one, names that never share an id across splits would tell which are siblings.
        """
        if classes.shape != ids.shape or classes.ndim != 1:
            raise ValueError("classes and ids must be rows of equal length")
        if classes.size and not 0 <= int(classes.min()) <= int(classes.max()) < self.num_classes:
            raise ValueError(f"classes must lie in [0, {self.num_classes})")
        if self.method == "none":
            return classes.astype(np.int32)
        if self.method == "random":
            # A stream of its own for each split: with a common one, names that never share an id
            # across splits would be siblings.
            which = keyed_words_below(self._stream(f"split {split}"), ids, self.expansion)
        else:
            if self._fitted is None or released_rows is None:
                raise ValueError(
                    f"method {self.method!r} needs fitted {self.method} and the released rows"
                )
            # A function of the released row, which trainers hold anyway, so the name costs no
            # privacy.
            which = self._fitted.assign_anchors(released_rows, classes)
        names: NDArray[np.int64] = self._permutation[classes * self.expansion + which]
        return names.astype(np.int32)

    def map_to_classes(self, sub_labels: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the classes behind names: int64, same shape."""
        return self._classes_of_names[sub_labels]

    def names_of_classes(self) -> NDArray[np.int64]:
        """Return the names of each class: int64 [K, gamma]."""
        return self._permutation.reshape(self.num_classes, self.expansion).copy()

    def to_private_bytes(self) -> bytes:
        """Return the map, secrets included, for the owner's private folder (safetensors)."""
        header = {
            "format": _FORMAT,
            "method": self.method,
            "num_classes": self.num_classes,
            "expansion": self.expansion,
            "step": None if self._fitted is None else repr(self._fitted.step),
        }
        tensors: dict[str, NDArray[Any]] = {
            "permutation": self._permutation,
            "spread_key": np.frombuffer(self._spread_key, dtype=np.uint8),
        }
        if self._fitted is not None:
            header["shift"] = self._fitted.shift
            tensors["directions"] = self._fitted.directions
            tensors["anchors"] = self._fitted.anchors
        tensors["header"] = np.frombuffer(json.dumps(header).encode("ascii"), dtype=np.uint8)
        return save(tensors)

    @classmethod
    def from_private_bytes(cls, stored: bytes) -> LabelMap:
        """Read `to_private_bytes`; ``ValueError`` if it did not write ``stored``."""
        try:
            # safetensors, not pickle: reading a private file must not run code.
            tensors = load(stored)
            header = json.loads(tensors["header"].tobytes())
            if header["format"] != _FORMAT:
                raise ValueError("another format")
            label_map = cls(
                header["method"],
                _count(header["num_classes"]),
                _count(header["expansion"]),
                permutation=tensors["permutation"],
                spread_key=tensors["spread_key"].tobytes(),
                fitted=_stored_anchors(header, tensors),
            )
        except (
            SafetensorError,
            LookupError,
            TypeError,
            ArithmeticError,
            RecursionError,
            UsageError,
        ) as error:
            raise ValueError(f"these bytes are not a label map: {error}") from error
        # Written anew it must be the same: nothing in the file was passed over or converted.
        if label_map.to_private_bytes() != stored:
            raise ValueError("these bytes are not a label map as it is written")
        return label_map

    def _stream(self, use: str) -> KeyedStream:
        return KeyedStream(self._key(use))

    def _key(self, use: str) -> bytes:
        # One key a use, so that no two uses share random words.
        return hashlib.blake2b(use.encode("utf-8"), key=self._spread_key, digest_size=32).digest()

    def _with(self, fitted: Anchors) -> LabelMap:
        return LabelMap(
            self.method,
            self.num_classes,
            self.expansion,
            permutation=self._permutation,
            spread_key=self._spread_key,
            fitted=fitted,
        )


def _count(given: object) -> int:
    # Not isinstance: True is an int, too.
    if type(given) is not int:
        raise TypeError(f"{given!r:.40} is no count")
    return given


def _stored_anchors(
    header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]
) -> Anchors | None:
    """Return the anchors of a stored label map, None if it was not fitted."""
    if header["step"] is None:
        return None
    directions, anchors = tensors["directions"], tensors["anchors"]
    shift, step = _count(header["shift"]), float(header["step"])
    names = (header["num_classes"], header["expansion"])
    if not (directions.dtype == anchors.dtype == np.int64 and 0 <= shift < 64 and 0 < step < 2**64):
        raise ValueError("anchors of another type, or a step that is none")
    if directions.ndim != 2 or anchors.shape != (*names, directions.shape[1]):
        raise ValueError("anchors do not fit classes and names")
    return Anchors(directions, shift, anchors, step)
