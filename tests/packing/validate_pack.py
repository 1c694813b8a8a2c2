"""Every standard's own validator on a pack: run by the Python they are installed for.

    python validate_pack.py FOLDER

Prints a JSON object, name of the standard to "ok" or what its validator said.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


def cyclonedx(folder: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (folder / "bom.cdx.json").read_text(encoding="utf-8")
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert error is None, error


def slsa(folder: Path) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement, statement_pb2
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer._key import Key

    stored = json.loads((folder / "provenance.slsa.dsse.json").read_bytes())
    keys = json.loads((folder / "proofs" / "keys.securesystemslib.json").read_bytes())
    owner = [Key.from_dict(keyid, key) for keyid, key in keys.items() if key["name"] == "owner"]
    Envelope.from_dict(stored).verify(owner, 1)
    payload = base64.b64decode(stored["payload"])
    parsed = json_format.Parse(payload, statement_pb2.Statement())
    statement.Statement.copy_from_pb(parsed).validate()
    # Unknown fields, and values of another type, are errors.
    predicate: Any = provenance_pb2.Provenance()
    json_format.ParseDict(json.loads(payload)["predicate"], predicate)
    assert predicate.build_definition.build_type, "no buildType"
    assert predicate.run_details.builder.id, "no builder"


def model_signing(folder: Path) -> None:
    run(
        [
            *(BIN / "model_signing", "verify", "key", folder / "model"),
            *("--signature", folder / "model.sig"),
            *("--public_key", folder / "model-signing.pub.pem"),
        ]
    )


def ro_crate(folder: Path) -> None:
    options = ["--no-paging", "-p", "process-run-crate", "-l", "recommended"]
    # A cache of its own that holds the context of RO-Crate 1.1, where there is no network.
    cache = os.environ.get("CLICOOPER_RO_CRATE_CACHE")
    if cache:
        options += ["--offline", "--cache-path", cache]
    run([BIN / "rocrate-validator", "-y", "--disable-color", "validate", *options, folder])


def run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


VALIDATORS: dict[str, Callable[[Path], None]] = {
    "cyclonedx": cyclonedx,
    "slsa": slsa,
    "model-signing": model_signing,
    "ro-crate": ro_crate,
}


def main(folder: Path, names: list[str]) -> None:
    said = {}
    for name in names or VALIDATORS:
        try:
            VALIDATORS[name](folder)
        except Exception as error:  # noqa: BLE001 - libraries raise what they like
            said[name] = f"{type(error).__name__}: {error}"
        else:
            said[name] = "ok"
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
