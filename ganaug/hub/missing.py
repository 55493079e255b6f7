"""What there is where a generator was expected, for messages that say what to do."""

from __future__ import annotations

import shlex
from pathlib import Path

from ganaug.hub.config import CONFIG
from ganaug.hub.weights import WEIGHTS

RUNS = Path("outputs")  # where ganaug train makes the folders of its runs
CHECKPOINTS = Path("training", "checkpoints")  # in the folder of a run
SETTINGS = Path("training", "settings.json")  # likewise, of a run that a command started
_NAMED = 5  # the most folders that a message names


def where_else(path: Path) -> str:
    """What to do about a path that holds no generator: a sentence, or two.

    Args:
        path (Path): a folder, a file, or nothing at all.
    """
    # It may be a part of a run, such as a checkpoint; or a run that has saved no generator yet.
    for folder in [path, *path.parents]:
        if _holds_generator(folder):
            return f"Give {folder}, which holds one"
        by_command, stopped = (folder / SETTINGS).is_file(), any(folder.glob(f"{CHECKPOINTS}/step-*"))
        quoted = shlex.quote(str(folder))
        if by_command and stopped:
            how = f"Go on with it: ganaug train --resume_from_checkpoint {quoted}"
        elif by_command:
            how = f"Start it again with its flags and --resume_from_checkpoint latest --output_dir {quoted}"
        elif stopped:
            how = f"Go on with it as it was started, with train(..., resume=find_checkpoint({str(folder)!r}))"
        else:
            continue
        return f"The run in {folder} was stopped before it saved a generator, or is still training. {how}"

    # Or it holds folders of generators; or those are where runs usually are.
    near = [each.parent for folder in (path, RUNS) for each in folder.glob(f"*/{CONFIG}")]
    found = sorted({folder for folder in near if _holds_generator(folder)})
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return f"There is one in {', '.join(str(folder) for folder in found[:_NAMED])}{more}"
    return f"ganaug train makes one, in a folder of {RUNS}"


def _holds_generator(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()
