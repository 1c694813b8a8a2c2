"""The owner's private files: key, front, label map, receipts, ledger; made once, then read again.

A pass over the data that was killed is repeated with the same key, front, label map and receipts,
so the very same bits leave: that is what makes a release one-time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import ClicooperError, DataError, RunFolderError
from clicooper_hpc.fronts.front import Front, restore_front
from clicooper_hpc.owner.input_facts import InputFacts
from clicooper_hpc.owner.moments_release import MomentsRelease
from clicooper_hpc.owner.release_trace import find_release_trace
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.privacy_ledger import SUM_KINDS, PrivacyBudget, PrivacyLedger
from clicooper_hpc.privacy.receipts import ReleaseReceipts
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.run_folder import LEDGER_FILE, RunFolder
from clicooper_hpc.runstore.safetensors_files import pack_safetensors, unpack_safetensors

__all__ = [
    "OwnerSecrets",
    "missing_owner_secrets",
    "require_model_secrets",
    "require_owner_secrets",
]

_T = TypeVar("_T")
_KEY = "master.key"
_FRONT, _FRONT_SETTINGS = "front.safetensors", "front.json"
_FRONT_PROBE = "front.probe"
_LABEL_MAP = "label-map.safetensors"
_INPUT = "input.json"
_MOMENTS = "moments.safetensors"
#: What must be there to bring released rows back: preparing makes anew what is not, and charges it.
_NEEDED = (_KEY, _FRONT_SETTINGS, _FRONT, _LABEL_MAP)
#: What the delivered model is made of, besides what trainers delivered.
_OF_MODEL = (_FRONT_SETTINGS, _FRONT, _LABEL_MAP)


def missing_owner_secrets(private: Path, *more: str) -> list[str]:
    """Return which of the files that bring released rows back, and of ``more``, are not there."""
    return [name for name in (*_NEEDED, *more) if not (private / name).is_file()]


def require_owner_secrets(private: Path, doing: str) -> None:
    """Raise `RunFolderError` unless all secrets of a run that has released rows are there.

    ``doing``: the command.
    """
    missing = missing_owner_secrets(private, LEDGER_FILE, _receipts("train"))
    if missing:
        raise RunFolderError(
            "the owner's secrets are not there, and with them the released rows "
            f"({missing[0]} is missing or no file)",
            where=str(private),
            remedy=f"{doing.capitalize()} where the owner keeps the run folder.",
        )


def require_model_secrets(private: Path) -> None:
    """Raise `RunFolderError` unless the owner's parts of the delivered model are there."""
    missing = [name for name in _OF_MODEL if not (private / name).is_file()]
    if missing:
        raise RunFolderError(
            "the owner's parts of the model are not there: without the front and the label map, "
            f"delivered segments say nothing about classes ({missing[0]} is missing or no file)",
            where=str(private),
            remedy="Use the model where the owner keeps the run folder, or export it there.",
        )


class OwnerSecrets:
    """Reads what ``private/`` holds, and makes and keeps what it does not hold yet."""

    def __init__(self, folder: PrivateFolder) -> None:
        self._folder = folder

    def secret_master_key(self, job: Job) -> MasterKey:
        """Return the key all secret randomness of the run is derived from."""
        if _KEY in self._folder:
            return self._read_sound(_KEY, MasterKey.from_private_bytes)
        key = (
            MasterKey.generate()
            if job.privacy.mode == "secure"
            else MasterKey.from_seed(job.privacy.seed)
        )
        self._folder.write_secret(_KEY, key.to_private_bytes())
        return key

    def secret_front(self, build: Callable[[], Front]) -> Front:
        """Return the stored front, or build it once: training it again would spend again."""
        # The settings are written last, so where they stand the front is whole.
        if _FRONT_SETTINGS in self._folder:
            tensors = self._read_sound(
                _FRONT, lambda stored: unpack_safetensors(stored, where=_FRONT)
            )
            return self._read_sound(
                _FRONT_SETTINGS,
                lambda stored: restore_front(stored.decode(), tensors),
                beside=_FRONT,
            )
        front = build()
        # Kept apart from the front: a restart compares it with what its own machine computes.
        self._folder.write_secret(_FRONT_PROBE, front.probe.hex.encode())
        self._folder.write_secret(_FRONT, pack_safetensors(front.front_tensors(), {}))
        self._folder.write_secret(_FRONT_SETTINGS, front.front_settings().encode())
        return front

    def secret_label_map(self, build: Callable[[], LabelMap]) -> LabelMap:
        """Return the stored label map, or make it once."""
        if _LABEL_MAP in self._folder:
            return self._read_sound(_LABEL_MAP, LabelMap.from_private_bytes)
        label_map = build()
        self._folder.write_secret(_LABEL_MAP, label_map.to_private_bytes())
        return label_map

    def secret_input_facts(self, build: Callable[[], InputFacts]) -> InputFacts:
        """Return the stored facts of the samples, or observe and store them."""
        stored = self.stored_input_facts()
        if stored is not None:
            return stored
        facts = build()
        self._folder.write_secret(_INPUT, facts.to_private_bytes())
        return facts

    def stored_input_facts(self) -> InputFacts | None:
        """Return the stored facts of the samples; None in a run of a version that kept none."""
        if _INPUT not in self._folder:
            return None
        return self._read_sound(_INPUT, InputFacts.from_private_bytes)

    def secret_moments(self, build: Callable[[], MomentsRelease]) -> MomentsRelease:
        """Return what was made of the noised moments, or make it once."""
        if _MOMENTS in self._folder:
            where = str(self._folder.path / _MOMENTS)
            return self._read_sound(
                _MOMENTS, lambda stored: MomentsRelease.from_private_bytes(stored, where=where)
            )
        release = build()
        self._folder.write_secret(_MOMENTS, release.to_private_bytes())
        return release

    def secret_receipts(self, split: str, samples: int, key: bytes) -> ReleaseReceipts:
        """Return what is known to have left of ``split``, or empty receipts if nothing can have.

        Raises
        ------
        RunFolderError
            They are damaged, of another key, or gone although the ledger says that rows left; or
            they speak of rows that the ledger knows nothing of.
        """
        name = _receipts(split)
        charged = any(
            entry.split == split and entry.kind not in SUM_KINDS
            for entry in self.secret_ledger(None).entries
        )
        if name in self._folder:
            receipts = self._read_sound(name, lambda kept: ReleaseReceipts.from_bytes(kept, key))
            # Charging comes first: such a ledger has lost what was paid.
            if receipts.released and not charged:
                raise self._lost_ledger(f"{name} has receipts of {receipts.released} samples")
            return receipts
        # Without its receipts a released sample could leave again with other bytes, and nobody
        # would notice.
        if charged:
            raise RunFolderError(
                f"the receipts of split {split!r} are missing, and the ledger says that it was "
                "released",
                where=str(self._folder.path / name),
                remedy="Bring back the file the run wrote; without it nobody can tell whether the "
                "same rows would leave again.",
            )
        return ReleaseReceipts(samples, key)

    def store_receipts(self, split: str, receipts: ReleaseReceipts) -> None:
        """Store what has left of ``split``."""
        self._folder.write_secret(_receipts(split), receipts.to_bytes())

    def secret_ledger(self, budget: PrivacyBudget | None) -> PrivacyLedger:
        """Return what the run was charged so far, or an empty ledger if nothing can have left.

        Raises
        ------
        RunFolderError
            It is damaged, or charges nothing although the run folder shows that samples left.
        """
        ledger = PrivacyLedger(budget)
        if LEDGER_FILE in self._folder:
            ledger = self._read_sound(
                LEDGER_FILE, lambda stored: PrivacyLedger.from_dict(json.loads(stored))
            )
        # It is stored before the first row leaves. Empty behind that, all would be paid anew, and
        # what was paid be forgotten.
        if not ledger.entries:
            trace = find_release_trace(RunFolder(self._folder.path.parent))
            if trace is not None:
                raise self._lost_ledger(trace)
        return ledger

    def store_ledger(self, ledger: PrivacyLedger) -> None:
        """Store the ledger; done before anything it has just allowed is sent."""
        self._folder.write_secret(LEDGER_FILE, json.dumps(ledger.to_dict()).encode())

    def _lost_ledger(self, trace: str) -> RunFolderError:
        return RunFolderError(
            f"the privacy ledger is missing or empty, although samples have left ({trace})",
            where=str(self._folder.path / LEDGER_FILE),
            remedy="Bring back the private folder as the run left it; without the ledger nobody "
            "can tell what was paid for.",
        )

    def _read_sound(
        self, name: str, parse: Callable[[bytes], _T], *, beside: str | None = None
    ) -> _T:
        """Parse a file; ``beside``: another one whose damage shows in this one alone."""
        content = self._folder.read_secret(name)
        try:
            return parse(content)
        # Damage is never mended by making the file anew: that would be another key, map or charge.
        except (ValueError, RecursionError, DataError, RunFolderError) as error:
            # What parses knows neither the file nor whether the run has ended.
            reason = error.what if isinstance(error, ClicooperError) else error
            either = "" if beside is None else f", or {beside} beside it,"
            raise RunFolderError(
                f"the owner's private file{either} is damaged ({reason})",
                where=str(self._folder.path / name),
                remedy="Bring back the file the run wrote; without it the run can neither go on "
                "nor be used.",
            ) from None


def _receipts(split: str) -> str:
    return f"receipts-{split}.bin"
