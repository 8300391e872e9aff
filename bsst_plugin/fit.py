"""Training on clips that are made once, without a runner; it goes on where it was interrupted."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from bsst_plugin.checkpoints.write import check_is_new, save, write_checkpoint
from bsst_plugin.errors import UserError

WARMUP, FALL = 0.02, 0.4  # parts of the steps in which the learning rate rises and falls
AVERAGED = 0.01  # part of the steps over which weights are averaged
VALIDATIONS = 10


def add_options(
    parser: argparse.ArgumentParser, clips: int, clip_size: str, steps: int, batch: int
) -> None:
    """Add what every such training is told.

    Args:
        parser: Where to.
        clips: Default of ``--clips``.
        clip_size: What a clip takes.
        steps: Default of ``--steps``.
        batch: Default of ``--batch``.
    """
    parser.add_argument('config', help='config file')
    parser.add_argument('out', type=Path, metavar='OUT', help='checkpoint to write; must be new')
    parser.add_argument(
        '--clips', type=int, default=clips, help=f'{clip_size} (default: %(default)s)'
    )
    parser.add_argument('--steps', type=int, default=steps)
    parser.add_argument(
        '--batch', type=int, default=batch, help='clips of a step (default: %(default)s)'
    )
    parser.add_argument('--lr', type=float, default=2e-3, help='largest learning rate')
    parser.add_argument(
        '--bf16', action='store_true', help='in bfloat16: a CPU with AVX-512 BF16 is faster so'
    )


def check_options(args: argparse.Namespace) -> None:
    """Check what :func:`add_options` added.

    Raises:
        UserError: A value is out of range.
    """
    if min(args.clips, args.steps, args.batch) < 1 or args.lr <= 0:
        raise UserError('--clips, --steps and --batch must be at least 1, --lr above 0')


class Fit:
    """A network in training.

    Args:
        network: A generator; what requires gradients is trained.
        out: Checkpoint to write, averages of the last weights. Figures go to ``OUT.jsonl``; what it
            takes to go on is in ``OUT.state``, and clips in ``OUT.clips``, until it is finished.
        config: Text of the config.
        options: Those of the command, which must not change when it goes on.
        steps: Number of steps.
        lr: Largest learning rate.

    Raises:
        UserError: OUT is there already, or was begun with other settings.
    """

    def __init__(
        self,
        network: nn.Module,
        out: Path,
        config: str,
        options: dict[str, Any],
        steps: int,
        lr: float,
    ) -> None:
        self.network, self.out, self.config = network, out, config
        self.lr, self.last, self.done = lr, steps, 0
        self.trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr, betas=(0.9, 0.99), weight_decay=0)
        momentum = min(0.5, 1 / (AVERAGED * steps))
        self.averaged = ExponentialMovingAverage(network, momentum=momentum).eval()
        self.log, self.state, self.clips = (
            out.with_suffix(end) for end in ('.jsonl', '.state', '.clips')
        )
        self.settings = {'config': config, 'args': {k: str(v) for k, v in options.items()}}
        if self.state.exists():
            self._take_state()
        else:
            check_is_new(out)
            check_is_new(self.log)
            check_is_new(self.clips)
            self._write_state()

    def steps(self, loss: Callable[[], Tensor]) -> Iterator[int]:
        """Train, and stop for validations after the steps that are yielded."""
        interval = max(1, self.last // VALIDATIONS)
        for step in range(self.done + 1, self.last + 1):
            if self.done == step - 1:  # the same batches follow, interrupted or not
                torch.manual_seed(step)
            part = step / self.last
            factor = min(1, part / WARMUP, (1 - part) / FALL)
            self.optimizer.param_groups[0]['lr'] = self.lr * factor
            self.optimizer.zero_grad()
            loss().backward()
            nn.utils.clip_grad_norm_(self.trained, 0.1)
            self.optimizer.step()
            self.averaged.update_parameters(self.network)
            if step % interval == 0 or step == self.last:
                self.done = step
                yield step

    def write(self, figures: dict[str, float]) -> None:
        """Write what has been reached, and what it takes to go on."""
        state = self.averaged.module.state_dict()
        write_checkpoint(self.out, {name: x.cpu() for name, x in state.items()}, self.config)
        with self.log.open('a', encoding='utf-8') as lines:
            print(json.dumps(figures), file=lines)
        self._write_state()

    def finish(self) -> None:
        """Remove what it takes to go on, and the clips."""
        self.state.unlink()
        shutil.rmtree(self.clips)

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        parts = ('network', 'averaged', 'optimizer')
        return {name: getattr(self, name) for name in parts}

    def _write_state(self) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        save(self.state, {'settings': self.settings, 'done': self.done, **state})

    def _take_state(self) -> None:
        state = torch.load(self.state, map_location='cpu', weights_only=True)
        if state['settings'] != self.settings:
            raise UserError(
                f'{self.state}: begun with another config or other options; give the same, or '
                f'remove it and {self.clips}'
            )
        self.done = state['done']
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
