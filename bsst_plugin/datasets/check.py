"""Say what is wrong with a dataset before training or testing starts on it."""

from pathlib import Path

from mmengine.config import ConfigDict

from bsst_plugin.errors import UserError


def check_frame_folders(dataset: ConfigDict) -> None:
    """Check the folders that a ``BasicFramesDataset`` config names.

    Only names are compared, so it costs nothing; frames are checked when they are read.

    Args:
        dataset: Config with ``data_root`` and ``data_prefix`` (``img`` and ``gt``). Datasets
            without these, and those of other kinds, pass.

    Raises:
        UserError: A folder is missing or has no clips, the clips of the blurry and the sharp
            frames differ, or a clip lacks frames or has them under other names than the pipeline
            asks for.
    """
    if 'dataset' in dataset:  # a wrapper such as RepeatDataset
        return check_frame_folders(dataset.dataset)
    if not dataset.get('data_root') or not {'img', 'gt'} <= set(dataset.get('data_prefix', {})):
        return None
    root = Path(dataset.data_root)
    if not root.is_dir():
        raise UserError(
            f'{root}: no such folder; set data_root to the dataset, or make one with '
            f'tools/dataset_converters'
        )
    clips = {}
    for key, prefix in dataset.data_prefix.items():
        folder = root / prefix
        if not folder.is_dir():
            raise UserError(f'{folder}: no such folder; expected one folder per clip in it')
        clips[key] = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
        if not clips[key]:
            raise UserError(f'{folder}: holds no clips; expected one folder of frames per clip')
    _compare(clips['img'], clips['gt'], root / dataset.data_prefix['gt'])
    _compare(clips['gt'], clips['img'], root / dataset.data_prefix['img'])
    longest = dataset.get('num_input_frames') or 1
    template = _name_template(dataset.get('pipeline', []))
    for name, folder in clips['img'].items():
        frames, sharp = _frames(folder), _frames(clips['gt'][name])
        if frames != sharp:
            odd = sorted(set(frames) ^ set(sharp))[0]
            there, other = folder, clips['gt'][name]
            if odd in sharp:
                there, other = other, there
            raise UserError(
                f'{there / odd}: exists for only one of blurry and sharp; restore its partner '
                f'in {other} or remove it'
            )
        numbered = frames if template is None else [template.format(i) for i in range(len(frames))]
        if frames != sorted(numbered):
            gap = next(name for name in numbered if name not in frames)
            raise UserError(
                f'{folder / gap}: missing; frames are numbered from {numbered[0]} without a gap'
            )
        if len(frames) < longest:
            raise UserError(
                f'{folder}: {len(frames)} frames, but num_input_frames asks for {longest}; '
                f'remove the clip or lower num_input_frames'
            )
    return None


def _name_template(pipeline: list[ConfigDict]) -> str | None:
    """What MMagic's ``GenerateSegmentIndices`` makes the names of frames from."""
    for step in pipeline:
        if step.type == 'GenerateSegmentIndices':
            return step.get('filename_tmpl', '{:08d}.png')
    return None


def _compare(here: dict[str, Path], there: dict[str, Path], other: Path) -> None:
    for name, folder in here.items():
        if name not in there:
            raise UserError(
                f'{folder}: has no counterpart {other / name}; '
                f'every clip needs blurry and sharp frames'
            )


def _frames(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith('.'))
