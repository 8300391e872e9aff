"""Where a command writes, and what must not be there yet."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bsst_plugin.errors import UserError
from bsst_plugin.video import FrameSource


@dataclass(frozen=True)
class Targets:
    """Files and folders that a run writes.

    Attributes:
        output: The deblurred video, or the folder of its frames.
        is_folder: Whether it is a folder.
        shows: Further videos by what they show.
        preview: The picture that is made first, if any.
        report: The web page, if any.
    """

    output: Path
    is_folder: bool
    shows: dict[str, Path]
    preview: Path | None
    report: Path | None

    def check(self, source: FrameSource, overwrite: bool) -> None:
        """Check that nothing is lost by writing them.

        Args:
            source: The input.
            overwrite: Whether existing outputs may be replaced.

        Raises:
            UserError: Something is in the way.
        """
        given = [self.output, *self.shows.values(), self.preview, self.report]
        for path in (path for path in given if path is not None):
            if not os.path.lexists(path):
                continue
            if path.exists() and path.samefile(source.path):
                raise UserError(f'{path}: is the input; choose another output')
            if path.is_dir() != (self.is_folder and path == self.output):
                kind = 'a folder' if path.is_dir() else 'not a folder'
                raise UserError(f'{path}: is {kind}; choose another output')
            if path.is_dir() and not any(path.iterdir()):
                continue
            if not overwrite:
                raise UserError(f'{path}: exists already; add --overwrite or choose another output')
            if path.is_dir():
                others = sorted({entry.name for entry in path.iterdir()} - set(source.names))
                if others:
                    raise UserError(
                        f'{path}: holds {others[0]}, which would be lost; empty it or choose '
                        f'another output'
                    )
        if self.report is not None:
            _check_writable(self.report.parent)
            if self.is_folder and self.output.resolve() in self.report.resolve().parents:
                raise UserError(
                    f'{self.report.parent}: in the folder of the output, which would replace it; '
                    f'choose another --report'
                )


def _check_writable(folder: Path) -> None:
    """Check that the folder of a report can be made: that is written when all else is done."""
    there = next(p for p in (folder, *folder.absolute().parents) if os.path.exists(p))
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f'{there}: not a folder that can be written to; choose another --report')


def plan_targets(
    source: Path, output: str | None, shows: Sequence[str], preview: bool, report: str | None
) -> Targets:
    """Names of everything that is written, from the command line.

    Args:
        source: The input.
        output: The output as given; a folder if it has no ending, ends with a slash or is one.
        shows: What to show in further videos.
        preview: Whether to make a picture first.
        report: Folder of the web page, if any.

    Returns:
        The targets.

    Raises:
        UserError: The output has no name of its own, beside which something could be kept.
    """
    if output is None:
        path = source.absolute()
        path = path.with_name(f'{path.stem}_deblurred{path.suffix}')
        is_folder = source.is_dir()
        if is_folder:
            path = source.absolute().with_name(f'{source.absolute().name}_deblurred')
    else:
        path = Path(output)
        if path.name in ('', '..'):
            raise UserError(f'{output}: give a new file or folder as the output')
        is_folder = path.is_dir() or not path.suffix or output.endswith(('/', os.sep))
    stem = path.name if is_folder else path.stem
    ending = '.mp4' if is_folder else path.suffix
    return Targets(
        path,
        is_folder,
        {show: path.with_name(f'{stem}_{show}{ending}') for show in shows},
        path.with_name(f'{stem}_preview.png') if preview else None,
        None if report is None else Path(report) / 'index.html',
    )
