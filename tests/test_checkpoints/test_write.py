import errno
import os

import pytest
import torch

from bsst_plugin.checkpoints.write import check_is_new, save, write_checkpoint
from bsst_plugin.errors import UserError


def test_a_checkpoint_has_the_weights_of_a_generator_and_its_config(tmp_path):
    path = tmp_path / 'new' / 'a.pth'
    write_checkpoint(path, {'x': torch.arange(3)}, 'model = dict()')
    content = torch.load(path, weights_only=True)
    assert content['meta'] == {'cfg': 'model = dict()'}
    assert content['state_dict'].keys() == {'generator.x'}
    assert torch.equal(content['state_dict']['generator.x'], torch.arange(3))


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / 'a.pt'
    save(path, {'step': 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(UserError, match=r'a\.pt: cannot be written \(No space left'):
        save(path, {'step': 2})
    assert torch.load(path, weights_only=True) == {'step': 1}
    assert os.listdir(tmp_path) == ['a.pt']


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / 'a.pt').touch()
    check_is_new(tmp_path / 'b.pt')
    with pytest.raises(UserError, match=r'a\.pt: exists already'):
        check_is_new(tmp_path / 'a.pt')
