"""The demo's config, made so small that a training step takes no time."""

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
train_cfg = dict(max_iters=4, val_interval=4)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2, max_keep_ckpts=-1))
log_processor = dict(window_size=1)
"""


def render_tiny_dataset(folder: Path) -> Path:
    """Two training clips and a test clip of 5 frames, 64 x 64, in GoPro's layout."""
    settings = BlurSettings(num_frames=5, size=64)
    render_dataset(folder, clips={'train': 2, 'test': 1}, settings=settings, progress=False)
    return folder


def write_tiny_config(path: Path, data: Path) -> Path:
    """A config for the dataset at ``data``."""
    path.write_text(TEMPLATE.format(repo=REPO, data=data))
    return path
