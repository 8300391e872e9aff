"""Compare networks on one dataset: quality, size, cost, and how it looks.

python tools/compare.py configs/bsstnet_gopro_released.py:checkpoints/bsstnet_gopro_released.pth \
    configs/baselines/vrt_gopro.py:checkpoints/vrt_gopro.pth --out work_dirs/compare
"""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from rich.console import Console

from bsst_plugin.analysis.comparison import check_new, new_folder, write_comparison
from bsst_plugin.analysis.published import method_of
from bsst_plugin.analysis.runs import Frame, Run, choose_frames, measure_run
from bsst_plugin.cli import run
from bsst_plugin.datasets import VideoWindows
from bsst_plugin.engine import check_datasets, load_config
from bsst_plugin.errors import UserError

PICTURES = 3


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Compare networks on one dataset.')
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='config file, or config:checkpoint; without a checkpoint the network is as it starts. '
        'Dataset and protocol (windows, tiles) of the first are those of all',
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='new folder for the results')
    parser.add_argument(
        '--frames',
        nargs='+',
        metavar='VIDEO:INDEX',
        help=f'frames to show (default: the blurriest of {PICTURES} videos)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of all configs, e.g. test_dataloader.dataset.data_root=data/mine',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare."""
    args = parse_args(argv)
    out, console = Path(args.out), Console(stderr=True)
    check_new(out)
    runs = _load_runs(args.runs, args.cfg_options)
    first = runs[0].cfg
    check_datasets(first, 'test')
    for each in runs:
        each.cfg.model.test_cfg = first.model.get('test_cfg')
        each.build()  # before anything takes long
    MMLogger.get_instance('compare').setLevel(logging.WARNING)  # no table of each network
    windows = Runner.build_dataloader(dict(first.test_dataloader, batch_size=1), seed=0)
    dataset = windows.dataset
    if not isinstance(dataset, VideoWindows):
        raise UserError(f'{runs[0].config}: test_dataloader.dataset has to be VideoWindows')
    frames = _find_frames(dataset, args.frames)
    fp16 = (first.get('test_cfg') or {}).get('fp16', False)
    results = []
    for each in runs:
        with console.status(f'{each.name}: {len(windows)} windows'):
            results.append((each, measure_run(each, windows, frames, fp16)))
        console.print(f'{each.name}: PSNR {results[-1][1].scores["PSNR"]:.2f} dB')
    setting = {
        'dataset': first.test_dataloader.dataset.data_root,
        'windows': len(windows),
        'window_frames': dataset.num_frames,
        'fp16': fp16,
        'test_cfg': dict(first.model.get('test_cfg') or {}),
    }
    with new_folder(out) as folder:
        table = write_comparison(folder, setting, results)
    print(table)
    console.print(f'written: {out}', soft_wrap=True)


def _load_runs(texts: Sequence[str], options: dict | None) -> list[Run]:
    parts = [_split(text) for text in texts]
    configs = [_load(config, options) for config, _ in parts]
    stems = [Path(config).stem for config, _ in parts]
    methods = [method_of(cfg, stem) for cfg, stem in zip(configs, stems, strict=True)]
    # Two networks of one method, or one with two checkpoints, need names that tell them apart.
    names = [m if methods.count(m) == 1 else s for m, s in zip(methods, stems, strict=True)]
    seen: Counter[str] = Counter()
    runs = []
    for name, method, cfg, (config, checkpoint) in zip(names, methods, configs, parts, strict=True):
        seen[name] += 1
        unique = name if seen[name] == 1 else f'{name} ({seen[name]})'
        path = None if checkpoint is None else Path(checkpoint)
        runs.append(Run(unique, method, Path(config), cfg, path))
    return runs


def _split(text: str) -> tuple[str, str | None]:
    """Config and checkpoint of ``config[:checkpoint]``."""
    config, colon, checkpoint = text.partition('.py:')
    return (f'{config}.py', checkpoint) if colon else (text, None)


def _load(config: str, options: dict | None) -> Config:
    cfg = load_config(config, options)
    for key in ('model', 'test_dataloader'):
        if key not in cfg:
            raise UserError(f'{config}: has no {key}, so there is nothing to compare')
    return cfg


def _find_frames(dataset: VideoWindows, wanted: Sequence[str] | None) -> list[Frame]:
    """The frames to show, checked to be scored ones."""
    if wanted is None:
        return choose_frames(dataset, PICTURES)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    scored = {(i['video'], i['first_frame'] + index) for i in infos for index in i['scored_frames']}
    frames = []
    for text in wanted:
        video, _, index = text.rpartition(':')
        frame = (video, int(index)) if index.isdecimal() else (video, -1)
        if frame not in scored:
            known = sorted(number for name, number in scored if name == video)
            videos = ', '.join(sorted({name for name, _ in scored}))
            way_out = f'scored are {known[0]} to {known[-1]}' if known else f'videos are {videos}'
            raise UserError(f'--frames {text}: no such VIDEO:INDEX; {way_out}')
        frames.append(frame)
    return frames


if __name__ == '__main__':
    run(main)
