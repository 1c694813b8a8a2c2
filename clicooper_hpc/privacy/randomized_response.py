"""Label differential privacy: k-ary randomised response on the true class.

Warner 1965; Kairouz, Oh and Viswanath, "Extremal Mechanisms for Local Differential Privacy", 2016.
The true class is kept with probability p, every other class comes with probability q, and
p / q <= exp(epsilon). Both are integers over 2^64: q is rounded up, so the ratio is never larger
than exp(epsilon), and one 64-bit word decides without bias. A sample's word is fixed by its id,
so it answers once.
"""

from __future__ import annotations

import mpmath
import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.digests import Digest
from clicooper_hpc.errors import UsageError
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.keyed_stream import KeyedStream
from clicooper_hpc.privacy.master_key import MasterKey

__all__ = ["RandomizedResponse", "check_response"]


def check_response(epsilon: float, classes: int) -> None:
    """Refuse an epsilon or a number of classes that makes no mechanism.

    Raises
    ------
    UsageError
        Names both.
    """
    # Beyond 40 a wrong answer is rarer than 2^-57; below 2^-20 the answer says nothing.
    if not 2.0**-20 <= epsilon <= 40 or not 2 <= classes < 2**31:
        raise UsageError(
            f"randomised response with epsilon {epsilon!r} on {classes} classes",
            where="labels.randomized_response_epsilon",
            remedy="Give an epsilon between 1e-6 and 40 and at least two classes.",
        )


class RandomizedResponse:
    """Randomised response on the classes of one release.

    Parameters
    ----------
    epsilon
        Greater than 0: the epsilon of a label, delta 0, under replace-one.
    classes
        K, at least 2.
    master_key, context
        The owner's secret, and the digest of the release the labels belong to.

    Raises
    ------
    UsageError
        When epsilon or the number of classes makes no mechanism.
    """

    __slots__ = ("_stream", "classes", "epsilon", "other_weight", "true_weight")

    def __init__(
        self, epsilon: float, classes: int, master_key: MasterKey, context: Digest
    ) -> None:
        check_response(epsilon, classes)
        self.epsilon = float(epsilon)
        self.classes = classes
        exact = mpmath.MPContext()
        exact.prec = 256
        # In 256 bits: p / q must not exceed exp(epsilon) by a rounding.
        ratio = exact.exp(exact.mpf(self.epsilon))
        self.other_weight = int(exact.ceil(exact.mpf(2**64) / (ratio + classes - 1)))
        self.true_weight = 2**64 - (classes - 1) * self.other_weight
        self._stream = KeyedStream(master_key.derive_key("randomised-response", context.value))

    def __repr__(self) -> str:
        return f"RandomizedResponse(epsilon={self.epsilon!r}, classes={self.classes})"

    @property
    def keep_probability(self) -> float:
        """Chance that a sample's true class is answered."""
        return self.true_weight / 2**64

    def charge(self) -> Charge:
        """Cost of the labels to a sample."""
        return Charge.pure(self.epsilon)

    def randomized_answers(
        self, classes: NDArray[np.int64], ids: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the classes to use in place of the true ones: int64 [n].

        Parameters
        ----------
        classes
            int64 [n], true classes in [0, K).
        ids
            int64 [n], sample ids within the split.
        """
        if classes.shape != ids.shape:
            raise ValueError("classes and ids must be equally many")
        if classes.size and not 0 <= int(classes.min()) <= int(classes.max()) < self.classes:
            raise ValueError(f"classes must lie in [0, {self.classes})")
        # Fixed by the id: an answer that were drawn anew on each start would be averaged to the
        # truth.
        words = self._stream.draw_words(ids, 1)[:, 0]
        true_weight = np.uint64(self.true_weight)
        lie = words >= true_weight
        # 0 .. K-2, each with other_weight words; where the truth is kept this value is not used.
        which = (np.where(lie, words - true_weight, 0) // np.uint64(self.other_weight)).astype(
            np.int64
        )
        return np.where(lie, (classes + 1 + which) % self.classes, classes).astype(np.int64)
