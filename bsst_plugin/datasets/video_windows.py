"""The windows of the paper's evaluation as samples."""

import logging
from pathlib import Path

from mmagic.registry import DATASETS
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from bsst_plugin.errors import UserError
from bsst_plugin.inference.clips import MARGIN, scored_windows

#: What a sample says of itself; ``PackInputs(meta_keys=...)`` hands it on to the metrics.
WINDOW_KEYS = ('video', 'window', 'first_frame', 'scored_frames')


@DATASETS.register_module()
class VideoWindows(BaseDataset):
    """Videos in windows of ``num_frames``; each frame is scored in one window at most.

    Besides ``img_path`` and ``gt_path``, the frames of its window only, a sample holds ``video``
    (name of the folder), ``window`` (its number within the video), ``first_frame`` (index in the
    video) and ``scored_frames`` (indices in the window), see :func:`scored_windows`. The pipeline
    has to keep them: ``PackInputs(meta_keys=['video', 'window', 'first_frame',
    'scored_frames'])``.

    Args:
        data_root: Folder of the dataset.
        data_prefix: Folders in it that hold a folder per video: ``img`` blurry, ``gt`` sharp
            frames of the same names.
        pipeline: Transforms, as in ``BasicFramesDataset``.
        num_frames: Frames of a window; shorter videos are one window.
        margin: Frames at each end of a window that are not scored. A video of up to twice as many
            frames is scored on all, with a warning.
        metainfo: As in ``BasicFramesDataset``.

    Raises:
        UserError: ``num_frames`` is too small, or a folder is missing or has no videos.
    """

    METAINFO = dict(dataset_type='video_windows', task_name='deblur')

    def __init__(
        self,
        data_root: str,
        data_prefix: dict[str, str],
        pipeline: list,
        num_frames: int = 48,
        margin: int = MARGIN,
        metainfo: dict | None = None,
    ) -> None:
        if margin < 0 or num_frames <= 2 * margin:
            raise UserError(
                f'num_frames={num_frames}: windows need more than 2 * margin = {2 * margin} frames'
            )
        self.num_frames = num_frames
        self.margin = margin
        super().__init__(
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=dict(data_prefix),
            pipeline=pipeline,
            test_mode=True,
        )

    def load_data_list(self) -> list[dict]:
        """One entry per window, in the order of the videos' names."""
        folder = Path(self.data_prefix['img'])
        if not folder.is_dir():
            raise UserError(f'{folder}: no such folder; expected one folder of frames per video')
        videos = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        windows = [window for video in videos for window in self._windows(video)]
        if not windows:
            raise UserError(f'{folder}: holds no videos; expected one folder of frames per video')
        return windows

    def _windows(self, video: Path) -> list[dict]:
        names = sorted(p.name for p in video.iterdir() if not p.name.startswith('.'))
        if not names:
            return []
        if len(names) <= 2 * self.margin:
            print_log(
                f'{video}: {len(names)} frames are too few to leave out {self.margin} at each '
                f'end; all are scored',
                logger='current',
                level=logging.WARNING,
            )
        return [
            dict(
                key=f'{video.name}/{index:02d}',
                video=video.name,
                window=index,
                first_frame=window.frames.start,
                scored_frames=[frame - window.frames.start for frame in window.scored],
                **{
                    f'{key}_path': [f'{prefix}/{video.name}/{n}' for n in names[window.frames]]
                    for key, prefix in self.data_prefix.items()
                },
            )
            for index, window in enumerate(scored_windows(len(names), self.num_frames, self.margin))
        ]
