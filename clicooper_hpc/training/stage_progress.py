"""Progress of an unfinished training stage, as a checkpoint stores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.training.message_digests import CHANNELS, Channel, ChannelRecord

__all__ = ["StageProgress"]

_DIGEST_BYTES = 32
_TEXTS = ("started", "weights", "training")


@dataclass(frozen=True, slots=True)
class StageProgress:
    """One rank's part of the stage that a checkpoint lies in, or at the end of.

    Attributes
    ----------
    samples
        Released samples used so far in the stage.
    records
        Messages so far.
    started
        When the stage began (ISO 8601); trainers only, as what follows.
    weights, training
        Tensor roots (hex) of weights and of what else training needs when the stage began.
    """

    samples: int
    records: Mapping[Channel, ChannelRecord]
    started: str = ""
    weights: str = ""
    training: str = ""

    def pack_progress(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return tensors and texts by name.

        Per channel ``CHANNEL/digests`` uint8 [messages, 32], ``CHANNEL/places`` int64
        [messages, 2] (step, micro-batch), and the text ``CHANNEL/bytes``.
        """
        tensors: dict[str, Tensor] = {}
        # Plain tensors and texts: a safetensors file runs no code when it is read.
        texts = {"samples": str(self.samples)}
        texts |= {name: getattr(self, name) for name in _TEXTS}
        for channel, record in self.records.items():
            count = len(record.digests)
            # Digests and not messages: the hand-off needs no more to compute its root.
            digests = np.frombuffer(b"".join(record.digests), dtype=np.uint8)
            tensors[f"{channel}/digests"] = torch.from_numpy(
                digests.reshape(count, _DIGEST_BYTES).copy()
            )
            places = np.array(record.places, dtype=np.int64).reshape(count, 2)
            tensors[f"{channel}/places"] = torch.from_numpy(places)
            texts[f"{channel}/bytes"] = str(record.size)
        return tensors, texts

    @classmethod
    def unpack_progress(
        cls, tensors: Mapping[str, Tensor], texts: Mapping[str, str], *, where: str
    ) -> StageProgress:
        """Undo `pack_progress`.

        Raises
        ------
        RunFolderError
            Something is missing or of another shape; names ``where``.
        """
        try:
            records: dict[Channel, ChannelRecord] = {}
            for channel in CHANNELS:
                digests = tensors[f"{channel}/digests"].numpy()
                places = tensors[f"{channel}/places"].numpy()
                count = len(places)
                # A list that is too short would give another root, and blame the neighbour for it.
                if digests.shape != (count, _DIGEST_BYTES) or places.shape != (count, 2):
                    raise ValueError(f"{channel} has odd shapes")
                records[channel] = ChannelRecord(
                    digests=[digest.tobytes() for digest in digests],
                    places=[(int(step), int(part)) for step, part in places],
                    size=int(texts[f"{channel}/bytes"]),
                )
            named = {name: texts[name] for name in _TEXTS}
            return cls(int(texts["samples"]), records, **named)
        except (LookupError, ValueError, TypeError, RuntimeError) as error:
            raise RunFolderError(
                f"does not hold the progress of a stage ({error})",
                where=where,
                remedy="Use the checkpoint this run wrote for this rank.",
            ) from None
