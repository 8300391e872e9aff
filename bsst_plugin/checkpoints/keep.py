"""Checkpoints of a training run: written whole or not at all, and the newest that can be read."""

import logging
from pathlib import Path
from typing import ClassVar

from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log

from bsst_plugin.checkpoints.check import read_state_dict
from bsst_plugin.errors import UserError
from bsst_plugin.files import whole_file


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files, for ``CheckpointHook(backend_args=...)``.

    MMEngine writes a checkpoint under its final name, and removes an old one before the new one is
    there. Here a file gets its name when it is complete and on the disk, and only then goes what
    was to be removed. Whenever a run is cut off, all its checkpoints are whole.
    """

    # MMEngine makes an instance for each file, and another one to remove files.
    _outdated: ClassVar[set[Path]] = set()

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file, then remove what is outdated.

        Args:
            obj: Content of the file.
            filepath: Its path; folders that are missing are made.

        Raises:
            UserError: It cannot be written, for instance because the disk is full.
        """
        path = Path(filepath)
        try:
            with whole_file(path) as file:
                file.write(obj)
        except OSError as error:
            raise UserError(
                f'{path}: cannot be written ({error.strerror}); make room, then --resume: the '
                f'checkpoints before it are complete'
            ) from error
        for outdated in self._outdated - {path}:
            outdated.unlink(missing_ok=True)
        self._outdated.clear()

    def remove(self, filepath: str | Path) -> None:
        """Remove a file as soon as the next one is complete.

        Args:
            filepath: Its path.
        """
        self._outdated.add(Path(filepath))


def newest_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint to resume from.

    It is the one that MMEngine noted in ``last_checkpoint``, unless the note is cut off or that
    checkpoint cannot be read; then the newest one that can, and the log says so.

    Args:
        work_dir: Folder of the run.

    Returns:
        Its path, or None if there is no checkpoint.

    Raises:
        UserError: There are checkpoints, and none can be read.
    """
    folder, note = Path(work_dir), Path(work_dir, 'last_checkpoint')
    paths = [path for kind in ('iter', 'epoch') for path in folder.glob(f'{kind}_*.pth')]
    paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    noted = Path(note.read_text().strip()) if note.is_file() else Path()
    if not noted.is_file():  # the folder may have been moved
        noted = folder / noted.name
    if noted.is_file():
        paths = [noted, *(path for path in paths if not path.samefile(noted))]
    for path in paths:
        try:
            read_state_dict(path)
        except UserError as error:
            print_log(f'Left out: {error}', level=logging.WARNING)
            continue
        if path != noted:
            print_log(f'Resuming from {path}, the newest complete checkpoint')
        return path
    if paths:
        raise UserError(f'{folder}: no checkpoint in it can be read; start anew in another folder')
    return None
