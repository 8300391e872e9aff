"""Configs of this repository, made so small that a training step takes no time."""

import json
from pathlib import Path

from bsst_plugin.datasets import BlurSettings, render_dataset

REPO = Path(__file__).resolve().parents[1]

TEMPLATE = """
_base_ = ['{repo}/configs/bsstnet_demo.py']
model = dict(generator=dict(
    encoder=dict(shallow_channels=16, channels=24),
    backbone=dict(channels=24, alignment=dict(deform_groups=2)),
    fusion=dict(in_channels=72, channels=24, num_heads=2),
    neck=dict(channels=24, dim=16, num_heads=2, hidden_channels=2),
    decoder=dict(channels=24)))
train_dataloader = dict(batch_size=1, dataset=dict(data_root='{data}', num_input_frames=3))
val_dataloader = dict(dataset=dict(data_root='{data}'))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=4, val_begin=1, val_interval=4)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2, max_keep_ckpts=-1))
log_processor = dict(window_size=1)
"""

RECIPE_TEMPLATE = """
_base_ = ['{repo}/configs/{base}']
model = dict(generator=dict(
    encoder=dict(shallow_channels=16, channels=8),
    flow_estimator=dict(_delete_=True, type='DISFlow'),
    backbone=dict(channels=8, num_branches=2, alignment=dict(deform_groups=2)),
    fusion=dict(in_channels=24, channels=8, conv_groups=2, num_groups=1, num_heads=2),
    neck=dict(channels=8, dim=16, depth=2, num_heads=2, hidden_channels=4),
    decoder=dict(channels=8, shallow_channels=16, num_blocks=1)))
train_pipeline = [
    dict(step, gt_patch_size=64) if step['type'] == 'PairedRandomCrop' else step
    for step in _base_.train_pipeline]
train_dataloader = dict(num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{data}', num_input_frames=3, pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, dataset=dict(data_root='{data}'))
test_dataloader = val_dataloader
train_cfg = dict(max_iters={iters}, val_interval={iters})
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=-1))
log_processor = dict(window_size=1)
"""


def render_tiny_dataset(folder: Path, test_clips: int = 1) -> Path:
    """Two training clips and a test clip of 5 frames, 64 x 64, in GoPro's layout."""
    clips = {'train': 2, 'test': test_clips}
    settings = BlurSettings(num_frames=5, size=64)
    render_dataset(folder, clips=clips, settings=settings, progress=False)
    return folder


def write_tiny_config(path: Path, data: Path) -> Path:
    """The demo's config for the dataset at ``data``."""
    path.write_text(TEMPLATE.format(repo=REPO, data=data))
    return path


def write_tiny_recipe(
    path: Path, data: Path, base: str = 'bsstnet_gopro.py', iters: int = 4, more: str = ''
) -> Path:
    """A recipe's config for the dataset at ``data``, with ``more`` lines at its end."""
    path.write_text(RECIPE_TEMPLATE.format(repo=REPO, data=data, base=base, iters=iters) + more)
    return path


def losses(work_dir: Path) -> dict[int, float]:
    """Loss of each iteration, over all logs of a work folder."""
    out = {}
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if 'loss' in entry:
                out[entry['iter']] = entry['loss']
    return out
