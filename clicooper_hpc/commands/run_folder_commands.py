"""The commands that take the folder of a run that has begun, in the order of the help."""

from __future__ import annotations

from clicooper_hpc.commands.attack import ATTACK
from clicooper_hpc.commands.audit import AUDIT
from clicooper_hpc.commands.command import Command
from clicooper_hpc.commands.export import EXPORT
from clicooper_hpc.commands.inspect import INSPECT
from clicooper_hpc.commands.pack import PACK
from clicooper_hpc.commands.predict import PREDICT
from clicooper_hpc.commands.report import REPORT
from clicooper_hpc.commands.verify import VERIFY
from clicooper_hpc.commands.watch import WATCH

__all__ = ["RUN_FOLDER_COMMANDS"]

RUN_FOLDER_COMMANDS: tuple[Command, ...] = (
    INSPECT,
    WATCH,
    REPORT,
    PREDICT,
    EXPORT,
    PACK,
    VERIFY,
    AUDIT,
    ATTACK,
)
