"""The two keys of an owner that packs: the identity of the run, and the key that signs models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.inference.load_model import LoadedModel
from clicooper_hpc.packing.model_signature import ModelSigningKey
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.run.credentials import obtain_credentials
from clicooper_hpc.runstore.private_folder import PrivateFolder

__all__ = ["MODEL_KEY_FILE", "PackKeys", "obtain_pack_keys"]

#: In the owner's private folder of the run, beside the identity made for the run: mode 0600.
MODEL_KEY_FILE: Final = "model-signing.pem"


@dataclass(frozen=True, slots=True)
class PackKeys:
    """``identity`` (Ed25519) signed the ledger; it binds ``model_key`` (P-256) to the pack."""

    identity: Identity = field(repr=False)
    model_key: ModelSigningKey = field(repr=False)


def obtain_pack_keys(model: LoadedModel, owner: PublicIdentity) -> PackKeys:
    """Read the owner's identity and the key that signs models, which is made the first time.

    Parameters
    ----------
    owner
        Key that the run statement names.

    Raises
    ------
    EvidenceError
        The identity at hand is another one.
    RunFolderError, UsageError, EnvironmentUnfitError
        A key is missing, damaged or open to others.
    """
    private = model.run.folder.private
    identity = obtain_credentials(model.job, private, 0, is_restart=True).identity
    if identity.public != owner:
        raise EvidenceError(
            f"the owner's key at hand is {identity.keyid[:16]}, the run was signed with "
            f"{owner.keyid[:16]}",
            where=str(private / "rank-000"),
            remedy="Bring back the key that the run began with.",
        )
    folder = PrivateFolder(private / "rank-000")
    if MODEL_KEY_FILE not in folder:
        folder.write_secret(MODEL_KEY_FILE, ModelSigningKey.generate().to_pem())
    return PackKeys(
        identity,
        ModelSigningKey.from_pem(
            folder.read_secret(MODEL_KEY_FILE), where=str(folder.path / MODEL_KEY_FILE)
        ),
    )
