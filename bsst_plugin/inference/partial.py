"""Finished clips of an unfinished run, kept beside its output."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsst_plugin.errors import UserError
from bsst_plugin.inference.clips import OVERLAP

STATE = 'state.json'
AGAIN = 'give the same command as before, or --overwrite without --resume to start again'


class PartialRun:
    """The folder ``.NAME.partial`` beside an output NAME.

    A clip counts as finished once its record is there, which is written last and in one step:
    whatever else a killed run left behind is written again. One process at a time works there.

    Args:
        target: The output.

    Attributes:
        folder: Where the output is built.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f'.{target.name}.partial')
        self._locked: int | None = None

    @property
    def finished(self) -> int:
        """Number of clips that are finished."""
        count = 0
        while self._record(count).exists():
            count += 1
        return count

    def state(self) -> dict[str, Any]:
        """What :meth:`start` was given.

        Raises:
            UserError: The folder is not one of an unfinished run.
        """
        try:
            return json.loads((self.folder / STATE).read_text('utf-8'))
        except (OSError, ValueError) as error:
            raise UserError(
                f'{self.folder}: not an unfinished run; remove it or choose another output'
            ) from error

    def start(self, state: Mapping[str, Any]) -> None:
        """Begin anew.

        Args:
            state: What a run that goes on later has to agree with, and needs to know.

        Raises:
            UserError: Nothing can be written beside the output.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock()
            # Only what is known to be ours is removed; all that comes before the state is this.
            if {entry.name for entry in self.folder.iterdir()} - {_unfinished(Path(STATE)).name}:
                self.state()
            self._clear()
            self.update(state)
        except OSError as error:
            raise UserError(
                f'{self.target.parent}: cannot be written to ({error.strerror}); choose another '
                f'output'
            ) from error

    def lock(self) -> None:
        """Keep other processes out until :meth:`close`, or until this one ends in any way.

        Raises:
            UserError: Another process is at work there.
        """
        if self._locked is not None:
            return
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(folder)
                raise UserError(
                    f'{self.target}: another run is writing it; wait for that or choose another '
                    f'output'
                ) from error
            # Some network drives know no locks.
        self._locked = folder

    def close(self) -> None:
        """Let other processes in."""
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def update(self, state: Mapping[str, Any]) -> None:
        """Replace what :meth:`start` was given."""
        _write_json(self.folder / STATE, state)

    def check(self, settings: Mapping[str, Any], files: Mapping[str, Any]) -> None:
        """Check that this run goes on with the same settings and frames of the same names.

        Args:
            settings: The settings by name.
            files: Size and time of change of each file of the input.

        Raises:
            UserError: They differ.
        """
        state = self.state()
        for name, value in state['settings'].items():
            if settings.get(name) != value:
                raise UserError(
                    f'{self.target}: begun with {name}={value}, not {settings.get(name)}; {AGAIN}'
                )
        if list(state['files']) != list(files):
            raise UserError(f'{self.target}: begun with other frames; {AGAIN}')

    def check_read(self, files: Mapping[str, Any], read: int) -> None:
        """Check that the files that were read did not change; later ones may have been mended.

        Args:
            files: See :meth:`check`.
            read: Number of frames that the finished clips were made from.

        Raises:
            UserError: They did.
        """
        before = self.state()['files']
        for name in list(files)[:read]:
            if list(files[name]) != list(before[name]):
                raise UserError(f'{self.target}: {name} has changed since; {AGAIN}')

    def commit(self, clip: int, motion: list[float], tail: Tensor) -> None:
        """Record that a clip is finished; its frames must be written."""
        np.save(self._tail(clip), tail.numpy())
        _write_json(self._record(clip), {'motion': [round(value, 3) for value in motion]})
        if clip >= OVERLAP:
            self._tail(clip - OVERLAP).unlink(missing_ok=True)

    def tails(self) -> dict[int, Tensor]:
        """What the last finished clips leave to the next one, which shares frames with them."""
        clips = range(max(self.finished - OVERLAP, 0), self.finished)
        return {clip: torch.from_numpy(np.load(self._tail(clip))) for clip in clips}

    def motion(self) -> list[float]:
        """The motion in the frames of all finished clips."""
        records = (self._record(clip).read_text('utf-8') for clip in range(self.finished))
        return [value for record in records for value in json.loads(record)['motion']]

    def remove(self) -> None:
        """Remove the folder."""
        with contextlib.suppress(OSError):
            self._clear()
            self.folder.rmdir()

    def _clear(self) -> None:
        # A run that is killed here must not mislead the next one: records go first, so that no
        # clip counts as finished, and the state, which shows that the folder is ours, goes last.
        entries = self.folder.glob('*')
        for entry in sorted(entries, key=lambda e: (e.name == STATE, e.suffix != '.json')):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _record(self, clip: int) -> Path:
        return self.folder / f'clip_{clip:05d}.json'

    def _tail(self, clip: int) -> Path:
        return self.folder / f'tail_{clip:05d}.npy'


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    unfinished = _unfinished(path)
    unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False), 'utf-8')
    os.replace(unfinished, path)


def _unfinished(path: Path) -> Path:
    return path.with_suffix('.tmp')
