"""`write_pack`: what of a finished run may be handed on, written as a new folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from clicooper_hpc import __version__
from clicooper_hpc.errors import RunFolderError, UsageError
from clicooper_hpc.inference.exports.export_model import export_model
from clicooper_hpc.inference.load_model import LoadedModel, load_model_of_run
from clicooper_hpc.packing.bill_of_materials import bill_of_materials
from clicooper_hpc.packing.model_signature import model_root, public_key_pem
from clicooper_hpc.packing.pack_content import ModelFacts, PackContent
from clicooper_hpc.packing.pack_files import (
    BILL,
    CARD,
    CRATE,
    MODEL,
    MODEL_KEY,
    MODEL_SIGNATURE,
    PROOFS,
    README,
    SLSA,
    STATEMENT,
    PackedFile,
    list_files,
    pack_file_digests,
    read_document,
)
from clicooper_hpc.packing.pack_keys import PackKeys, obtain_pack_keys
from clicooper_hpc.packing.pack_proofs import verified_ledger, write_proofs
from clicooper_hpc.packing.pack_readme import pack_readme
from clicooper_hpc.packing.pack_statement import PackStatement
from clicooper_hpc.packing.run_crate import run_crate
from clicooper_hpc.packing.slsa_provenance import sign_slsa_provenance
from clicooper_hpc.provenance.statement_fields import TreeHead
from clicooper_hpc.runstore.new_output import check_new_output, new_output

__all__ = ["write_pack"]

#: The same for everybody, whatever the umask: a copy is the same folder.
_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755
#: Characters of a path that is looked for.
_SHORTEST_PATH: Final = 6
_SPDX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
_ADDRESS: Final = re.compile(r"https?://[!-~]{3,500}")


def write_pack(
    path: Path, target: Path, *, licence: str | None = None, description: str | None = None
) -> int:
    """Pack the finished run in ``path`` into the new folder ``target``; return its files' number.

    Parameters
    ----------
    licence
        Under which it is handed on: a name of SPDX's list, or an address. None: none is granted.
    description
        What the owner says of the data on the model card.

    Raises
    ------
    EvidenceError
        The run does not verify.
    RunFolderError
        It is no finished run with proofs, or its private folder is missing.
    UsageError, DataError, EnvironmentUnfitError
        A licence that is none, a ``target`` that exists, lies in the run or cannot be written, or
        a path of the owner's that would be handed on. Nothing is left then.
    """
    address = None if licence is None else _licence_address(licence)
    check_new_output(target)
    model = load_model_of_run(path)
    if model.delivery is None:
        raise RunFolderError(
            "the run has no proofs, and a pack is made of them",
            where=str(path),
            remedy="Hand on its model alone: clicooper export RUN --to hf-folder -o FOLDER.",
        )
    view = verified_ledger(model.run)
    keys = obtain_pack_keys(model, view.owner)
    with new_output(target, "the pack", folder=True) as folder:
        export_model(model, "hf-folder", folder / MODEL, description=description)
        write_proofs(view.evidence, folder / PROOFS)
        card = str(model.run.privacy.get("promised", ""))
        (folder / CARD).write_bytes(card.encode())
        where = f"{MODEL}/config.json"
        content = PackContent(
            view=view,
            card=card,
            model=ModelFacts.parse(read_document(folder, where), where=where),
            files=pack_file_digests(folder),
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            creator_version=__version__,
            licence=address,
        )
        _write_documents(folder, content, keys)
        _refuse_paths(folder, model)
        return _settle(folder)


def _licence_address(licence: str) -> str:
    if _ADDRESS.fullmatch(licence):
        return licence
    if _SPDX.fullmatch(licence):
        return f"https://spdx.org/licenses/{licence}"
    raise UsageError(
        f"{licence!r} is no licence",
        where="--license",
        remedy="Give a name of spdx.org/licenses, like CC-BY-4.0, or an address.",
    )


def _write_documents(folder: Path, content: PackContent, keys: PackKeys) -> None:
    """Write signatures and documents beside what they speak of; the owner's signature last."""
    signing, signed = keys.model_key, content.model_files()
    made = {
        MODEL_SIGNATURE: signing.sign_model(MODEL, signed),
        MODEL_KEY: public_key_pem(signing.public),
        BILL: _as_json(bill_of_materials(content)),
        SLSA: sign_slsa_provenance(content, keys.identity) + b"\n",
        README: pack_readme(content).encode(),
    }
    described = {name: PackedFile.of(text) for name, text in made.items()}
    crate = _as_json(run_crate(replace(content, files={**content.files, **described})))
    statement = PackStatement(
        created=content.created,
        creator_version=content.creator_version,
        run_id=content.run_id,
        crate=PackedFile.of(crate).sha256,
        model=model_root(signed),
        ledger=TreeHead(size=content.view.size, root=content.view.root_at(content.view.size)),
        model_key=signing.public.hex(),
        licence=content.licence,
    )
    made |= {CRATE: crate, STATEMENT: statement.sign(keys.identity) + b"\n"}
    for name, text in made.items():
        (folder / name).write_bytes(text)


def _as_json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _refuse_paths(folder: Path, model: LoadedModel) -> None:
    """Refuse a pack that holds, in any file, a path the owner's job or folders name."""
    for name in list_files(folder):
        content = (folder / name).read_bytes()
        for path in _owner_paths(model):
            if path.encode() in content:
                raise UsageError(
                    f"{path!r}, a path of this machine, would be handed on",
                    where=f"{name} of the pack",
                    remedy="Take it out of --describe, the names of the classes or of the front. "
                    "Nothing was written.",
                )


def _owner_paths(model: LoadedModel) -> set[str]:
    here = model.run.folder.path
    named = {os.path.abspath(here), os.path.realpath(here), os.path.abspath(model.job.folder)}
    named |= {one for one in _texts(model.run.job) if os.path.isabs(one)}
    named.add(os.path.join(os.path.expanduser("~"), ""))
    # Shorter ones stand somewhere in the bytes of any weights; a folder like /tmp says nothing.
    return {one for one in named if os.path.isabs(one) and len(one) >= _SHORTEST_PATH}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _settle(folder: Path) -> int:
    """Give files and folders their modes; return the number of files."""
    names = list_files(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(_FOLDER_MODE if path.is_dir() else _FILE_MODE)
    return len(names)
