"""A pack of a whole run: what is in it, who vouches for what, and what every change of it meets."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mpirun import mpirun

from clicooper_hpc.cli import main
from clicooper_hpc.packing.pack_checks import PACK_CHECKS
from clicooper_hpc.packing.pack_files import PackedFile
from clicooper_hpc.packing.pack_statement import PackStatement
from clicooper_hpc.provenance.envelope import parse_envelope, sign_envelope
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.verification.foreign_keyids import with_foreign_keyids
from clicooper_hpc.verification.run_checks import CHECKS

pytestmark = pytest.mark.mpi

ROOT = Path(__file__).resolve().parents[2]
CHANGES = ("pipeline.segments=2", "training.epochs=2", "provenance.stages=2", "data.train_rows=300")
NAMES = {
    "README.md",
    "bom.cdx.json",
    "model-signing.pub.pem",
    "model.sig",
    "model/README.md",
    "model/config.json",
    "model/model.pt2",
    "model/model.safetensors",
    "pack.dsse.json",
    "privacy-card.txt",
    "proofs/checkpoints.jsonl",
    "proofs/keys.securesystemslib.json",
    "proofs/ledger-checkpoint.txt",
    "proofs/owner.pub.pem",
    "proofs/proofs.intoto.jsonl",
    "proofs/proofs.securesystemslib.jsonl",
    "proofs/trainer-1.pub.pem",
    "proofs/trainer-2.pub.pem",
    "provenance.slsa.dsse.json",
    "ro-crate-metadata.json",
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder of a short run with two trainers, and of its pack."""
    folder = tmp_path_factory.mktemp("packed")
    run, pack = folder / "run", folder / "pack"
    options = [part for one in CHANGES for part in ("--set", one)]
    job = str(ROOT / "jobs" / "digits.toml")
    done = mpirun(3, ["-m", "clicooper_hpc", "run", job, "-o", str(run), *options])
    assert done.returncode == 0, done.stderr
    # A strict one: what is handed on must not depend on it.
    before = os.umask(0o077)
    try:
        assert main(["pack", str(run), "-o", str(pack), "--license", "CC-BY-4.0"]) == 0
    finally:
        os.umask(before)
    return run, pack


@pytest.fixture
def copy(packed: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the pack, to be changed."""
    return Path(shutil.copytree(packed[1], tmp_path / "copy"))


@pytest.fixture
def verify(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[int], str]]:
    """Verify a pack; return exit code, numbers of failed checks and all that was printed."""

    def call(pack: Path, *options: str) -> tuple[int, list[int], str]:
        code = main(["verify", str(pack), *options])
        out = "".join(capfd.readouterr())
        failed = [int(line[:2]) for line in out.splitlines() if line[4:10] == "FAILED"]
        return code, failed, out

    return call


def files_of(pack: Path) -> dict[str, Path]:
    return {str(path.relative_to(pack)): path for path in pack.rglob("*") if path.is_file()}


def test_it_holds_what_may_be_handed_on_and_nothing_else(packed: tuple[Path, Path]) -> None:
    run, pack = packed
    files = files_of(pack)
    assert set(files) == NAMES
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o644}
    folders = [pack, *(path for path in pack.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o755}
    # Every path that the owner's job or this machine has: the run's own file does hold one.
    paths = [str(run), str(ROOT), str(ROOT / "jobs")]
    assert any(path.encode() in (run / "run.h5").read_bytes() for path in paths)
    secrets = [
        path.read_bytes()
        for path in (run / "private").rglob("*")
        # Keys and masks; digests of the job and public keys are no secrets.
        if path.suffix in {".key", ".pem", ".bin"}
    ]
    assert len(secrets) >= 5
    for name, path in files.items():
        content = path.read_bytes()
        assert not [one for one in paths if one.encode() in content], name
        assert not any(secret in content for secret in secrets), name


def test_it_verifies_and_says_what_it_lacks(
    packed: tuple[Path, Path], verify: Callable[..., tuple[int, list[int], str]]
) -> None:
    run, pack = packed
    code, failed, out = verify(pack)
    assert (code, failed) == (0, [])
    lines = out.splitlines()
    for number, check in enumerate(PACK_CHECKS, len(CHECKS) + 1):
        assert lines[number - 1].startswith(f"{number}  ok      {check.title}")
    # What was compared with a run is what is not there; the rest is.
    absent = [int(line[:2]) for line in lines if line[4:10].strip() == "-"]
    assert absent == [14, 15, 16, 17, 18, 19]
    assert "the job is not at hand" in lines[1]
    assert lines[12].endswith("delivered files: 2")
    assert "what is not packed (the job; " in lines[-2]
    assert lines[-1] == "verified: every check that applies passed"
    owner = (run / "private" / "rank-000" / "identity.pub").read_text()
    assert verify(pack, "--owner-key", owner)[:2] == (0, [])
    assert verify(pack, "--owner-key", "2" * 64)[:2] == (4, [17])
    code, _, out = verify(pack, "--export", str(run / "x"))
    assert code == 2
    assert "--export: is for the folder of a run; this is a pack" in out


def test_a_receiver_needs_neither_torch_nor_mpi(packed: tuple[Path, Path]) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from clicooper_hpc.packing.pack_report import pack_report\n"
        "text, code = pack_report(Path(sys.argv[1]), owner_key=None, trainer_keys=[], "
        "as_json=True)\n"
        "assert code == 0, text\n"
        "assert not {'torch', 'mpi4py'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(packed[1])], check=True, timeout=120)


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def claim(bill: dict[str, Any], name: str) -> dict[str, Any]:
    claims: list[dict[str, Any]] = bill["declarations"]["claims"]
    return next(one for one in claims if one["bom-ref"] == f"claim/{name}")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_every_file_is_covered(
    copy: Path, verify: Callable[..., tuple[int, list[int], str]]
) -> None:
    """One changed byte of any file, a missing one and one too many are found."""
    for name in sorted(NAMES):
        path = copy / name
        before = path.read_bytes()
        flip(path, len(before) - 3)
        code, failed, out = verify(copy)
        # Of JSON that cannot be read a line says so before any check.
        assert code == 4, name
        assert failed or name in out, name
        path.write_bytes(before)
    (copy / "more.txt").write_text("x")
    code, failed, out = verify(copy)
    assert (code, failed) == (4, [20, 24])
    assert "more.txt: the crate metadata do not name it" in out
    (copy / "more.txt").unlink()
    (copy / "model" / "model.pt2").unlink()
    assert 20 in verify(copy)[1]


@pytest.mark.parametrize(
    "name", ["more", "proofs/more", "more/and/more", "run.h5", "model/more.fifo"]
)
def test_nothing_is_in_a_pack_that_its_owner_did_not_pack(
    name: str, copy: Path, verify: Callable[..., tuple[int, list[int], str]]
) -> None:
    """Empty folders, one that makes it look like a run, what is no file."""
    if name.endswith(".fifo"):
        os.mkfifo(copy / name)
    else:
        (copy / name).mkdir(parents=True)
    code, _, out = verify(copy)
    assert code == 4
    assert name in out
    if not name.endswith(".fifo"):
        assert f"{name}/: an empty folder, which the owner did not pack" in out


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        (["pack.dsse.json"], "no whole pack: pack.dsse.json missing"),
        (["proofs"], "proofs/proofs.intoto.jsonl, proofs/checkpoints.jsonl missing"),
        (["pack.dsse.json", "proofs"], "pack.dsse.json, proofs/proofs.intoto.jsonl, "),
        (
            ["pack.dsse.json", "proofs", "bom.cdx.json", "ro-crate-metadata.json", "README.md"],
            "pack.dsse.json, proofs/proofs.intoto.jsonl, ",
        ),
        (["privacy-card.txt"], "no whole pack: privacy-card.txt missing"),
        (["ro-crate-metadata.json"], "ro-crate-metadata.json"),
        (["model"], "model/model.safetensors of the pack is missing"),
        (["model-signing.pub.pem", "bom.cdx.json"], "bom.cdx.json of the pack is missing"),
    ],
)
def test_a_pack_that_lost_a_part_fails_and_says_which(
    taken: list[str], said: str, copy: Path, verify: Callable[..., tuple[int, list[int], str]]
) -> None:
    for name in taken:
        path = copy / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    code, _, out = verify(copy)
    assert code == 4
    assert said in out


def test_a_folder_of_others_is_not_taken_for_a_pack(
    tmp_path: Path, verify: Callable[..., tuple[int, list[int], str]]
) -> None:
    (tmp_path / "ro-crate-metadata.json").write_text("{}")
    (tmp_path / "README.md").write_text("mine")
    code, _, out = verify(tmp_path)
    assert code == 2
    assert "pack" not in out.replace(str(tmp_path), "")


def sign_again(pack: Path, run: Path) -> None:
    """Sign a pack whose files were changed, as its owner could: new digests, new statement."""
    identity = Identity.from_pem((run / "private" / "rank-000" / "identity.pem").read_bytes())

    def name_files(crate: dict[str, Any]) -> None:
        for entity in crate["@graph"]:
            if "sha256" in entity:
                file = PackedFile.of((pack / entity["@id"]).read_bytes())
                entity |= {"sha256": file.sha256, "contentSize": str(file.size)}

    change_json(pack / "ro-crate-metadata.json", name_files)
    path = pack / "pack.dsse.json"
    said = PackStatement.read_unchecked(path.read_bytes().strip(), where="test")
    crate = PackedFile.of((pack / "ro-crate-metadata.json").read_bytes()).sha256
    path.write_bytes(said.model_copy(update={"crate": crate}).sign(identity) + b"\n")


def lie_in_slsa(pack: Path, run: Path) -> None:
    identity = Identity.from_pem((run / "private" / "rank-000" / "identity.pem").read_bytes())
    path = pack / "provenance.slsa.dsse.json"
    payload = parse_envelope(path.read_bytes().strip()).payload
    changed = payload.replace(b'"stages":2', b'"stages":3')
    assert changed != payload
    signed = with_foreign_keyids(sign_envelope(changed, identity).to_bytes(), [identity.public])
    path.write_bytes(signed + b"\n")


#: What an owner could say that its ledger does not, and the check that finds it.
LIES: dict[str, tuple[int, Callable[[Path, Path], object]]] = {
    "rows": (
        22,
        lambda pack, _: change_json(
            pack / "bom.cdx.json",
            lambda bill: claim(bill, "rows").update(predicate="rows: 1000000 samples"),
        ),
    ),
    "epsilon": (
        22,
        lambda pack, _: change_json(
            pack / "bom.cdx.json",
            lambda bill: claim(bill, "epsilon").update(predicate="epsilon: epsilon 0.1"),
        ),
    ),
    "evidence": (
        22,
        lambda pack, _: change_json(
            pack / "bom.cdx.json", lambda bill: claim(bill, "steps")["evidence"].pop()
        ),
    ),
    "accuracy": (
        22,
        lambda pack, _: change_json(
            pack / "bom.cdx.json",
            lambda bill: bill["metadata"]["component"]["modelCard"]["quantitativeAnalysis"][
                "performanceMetrics"
            ][0].update(value="0.999"),
        ),
    ),
    "slsa": (23, lie_in_slsa),
    "readme": (25, lambda pack, _: (pack / "README.md").write_text("All is well.\n")),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_the_ledger_does_not_say_is_found_though_the_owner_signed_it(
    lie: str,
    copy: Path,
    packed: tuple[Path, Path],
    verify: Callable[..., tuple[int, list[int], str]],
) -> None:
    number, tell = LIES[lie]
    sign_again(copy, packed[0])
    assert verify(copy)[:2] == (0, [])
    tell(copy, packed[0])
    sign_again(copy, packed[0])
    code, failed, out = verify(copy)
    assert (code, failed) == (4, [number]), out


def test_other_weights_than_the_delivered_ones_are_found_though_all_is_signed(
    copy: Path, packed: tuple[Path, Path], verify: Callable[..., tuple[int, list[int], str]]
) -> None:
    path = copy / "model" / "model.safetensors"
    # The end of the file: of the tensor of the network that is stored last.
    flip(path, path.stat().st_size - 1)
    sign_again(copy, packed[0])
    code, failed, out = verify(copy)
    assert (code, failed) == (4, [13]), out
    assert "not run: check 13 failed" in out


def test_the_model_key_is_the_owner_s_secret_and_stays_the_same(
    packed: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, pack = packed
    key = run / "private" / "rank-000" / "model-signing.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert main(["pack", str(run), "-o", str(tmp_path / "second")]) == 0
    second = tmp_path / "second" / "model-signing.pub.pem"
    assert second.read_bytes() == (pack / "model-signing.pub.pem").read_bytes()
    assert "grants no licence" in (tmp_path / "second" / "README.md").read_text()
    capfd.readouterr()
    # Refused with one line, and nothing is left.
    refused = {
        ("-o", str(tmp_path / "second")): "exists already",
        ("-o", str(run / "pack")): "lies in a run folder",
        ("-o", str(tmp_path / "no" / "pack")): "there is no such folder",
        ("-o", str(tmp_path / "a"), "--license", "my own words"): "is no licence",
        ("-o", str(tmp_path / "b"), "--describe", f"see {ROOT / 'jobs'}"): "would be handed on",
    }
    for options, words in refused.items():
        assert main(["pack", str(run), *options]) == 2
        err = capfd.readouterr().err
        assert words in err
        assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second"]


def validators(pack: Path, *names: str) -> dict[str, str]:
    """What the validators of the standards say of a pack; skipped where they are not installed."""
    place = os.environ.get("CLICOOPER_STANDARDS")
    if not place:
        pytest.skip("the validators are not installed here: make test-standards")
    program = Path(__file__).with_name("validate_pack.py")
    python = Path(place).absolute() / "bin" / "python"
    done = subprocess.run(
        [python, program, pack, *names], capture_output=True, text=True, timeout=500, check=True
    )
    return dict(json.loads(done.stdout))


VALIDATORS = ("cyclonedx", "slsa", "model-signing", "ro-crate")


def answer(pack: Path, name: str) -> str:
    said = validators(pack, name)[name]
    if "urlopen" in said:
        pytest.skip(
            f"{name}: its validator fetches what it checks against, and there is no network"
        )
    return said


@pytest.mark.parametrize("name", VALIDATORS)
def test_the_validators_of_the_standards_take_it(name: str, packed: tuple[Path, Path]) -> None:
    assert answer(packed[1], name) == "ok"


#: Name of a validator to one changed field that it must find.
TAMPERED: dict[str, Callable[[Path], object]] = {
    "cyclonedx": lambda pack: change_json(
        pack / "bom.cdx.json",
        lambda bill: bill["metadata"]["component"].update(type="model"),
    ),
    "slsa": lambda pack: change_json(
        pack / "provenance.slsa.dsse.json",
        lambda envelope: envelope.update(payload=envelope["payload"].replace("A", "B", 1)),
    ),
    "model-signing": lambda pack: change_json(
        pack / "model" / "config.json", lambda config: config.update(run_id="0" * 32)
    ),
    "ro-crate": lambda pack: change_json(
        pack / "ro-crate-metadata.json",
        lambda crate: [one.pop("instrument", None) for one in crate["@graph"]],
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_each_of_them_finds_a_changed_field(name: str, copy: Path) -> None:
    TAMPERED[name](copy)
    said = answer(copy, name)
    assert said != "ok"
    # And not because the tool itself could not work.
    assert "No such file" not in said
