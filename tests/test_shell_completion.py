"""The script of `clicooper completion`, in a real bash; what it knows is what commands take."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from pathlib import Path

import pytest

from clicooper_hpc.cli import main
from clicooper_hpc.commands.completion import COMPLETED
from clicooper_hpc.data.importers.import_dataset import KINDS
from clicooper_hpc.inference.exports.export_request import MODEL_FORMATS
from clicooper_hpc.report.trackers.export_record import TRACKER_FORMATS

TRY = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_clicooper clicooper "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
echo "${COMPREPLY[@]}"
"""


def test_values_are_those_that_commands_take() -> None:
    assert set(COMPLETED["FORMAT"]) == {*MODEL_FORMATS, *TRACKER_FORMATS}
    assert set(COMPLETED["KIND"]) == {"hdf5", *KINDS}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_options_values_and_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("shtab", reason="shtab is not installed")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "clicooper.bash"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run.txt").touch()
    for words, wanted in (
        (("ver",), "verify"),
        (("data", ""), "import"),
        (("verify", "--js"), "--json"),
        (("export", "RUN", "--to", "m"), "mlflow"),
        (("data", "import", "cifar1"), "cifar10 cifar100"),
        (("inspect", "run"), "run-1"),
    ):
        done = subprocess.run(
            ["bash", "-c", TRY, "bash", str(script), "clicooper", *words],
            cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        assert done.stdout.split() == wanted.split(), words


def test_every_shell_gets_a_script_and_another_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("shtab", reason="shtab is not installed")
    for shell in ("zsh", "tcsh"):
        assert main(["completion", shell]) == 0
        assert "hf-folder" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["completion", "fish"])
    assert ended.value.code == 2


def test_without_shtab_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    assert main(["completion", "bash"]) == 5
    assert "pip install shtab" in capsys.readouterr().err
