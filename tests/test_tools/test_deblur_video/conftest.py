import copy

import pytest
import torch
from mmagic.registry import MODELS
from mmengine.config import Config

from bsst_plugin.cli import run
from bsst_plugin.commands import deblur_video as command
from bsst_plugin.inference import Tiling
from bsst_plugin.inference.clip_plan import ClipPlan


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, tiny_generator, randomise):
    """A tiny network that changes frames a little."""
    generator = tiny_generator()
    network = randomise(MODELS.build(copy.deepcopy(generator)))
    network.decoder.to_frame.weight.data *= 0.02
    config = Config(dict(model=dict(type='VideoDeblurrer', generator=generator)))
    state = {f'generator.{name}': value for name, value in network.state_dict().items()}
    path = tmp_path_factory.mktemp('checkpoint') / 'tiny.pth'
    torch.save({'state_dict': state, 'meta': {'cfg': config.pretty_text}}, path)
    return path


@pytest.fixture
def short_clips(monkeypatch):
    """Clips of 6 frames and tiles of 48, without measuring."""

    def choose(network, device, amp, total, *_):
        return ClipPlan(min(6, total), Tiling(48, 16, 'smooth'))

    monkeypatch.setattr(command, 'choose_plan', choose)


@pytest.fixture
def deblur(checkpoint, capsys):
    """Run the command in this process; what it prints."""

    def call(*argv):
        arguments = ['--checkpoint', str(checkpoint), '--device', 'cpu', *map(str, argv)]
        command.deblur_video(arguments)
        return capsys.readouterr().out

    return call


@pytest.fixture
def fails(checkpoint, capsys):
    """The one line with which the command fails."""

    def call(*argv, checkpoint=checkpoint):
        arguments = ['--checkpoint', str(checkpoint), '--device', 'cpu', *map(str, argv)]
        with pytest.raises(SystemExit) as stop:
            run(lambda: command.deblur_video(arguments))
        assert stop.value.code == 1
        lines = capsys.readouterr().err.strip().splitlines()
        errors = [line for line in lines if line.startswith('error: ')]
        assert len(errors) == 1 and errors[0] == lines[-1]
        return errors[0]

    return call
