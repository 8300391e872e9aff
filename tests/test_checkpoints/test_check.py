import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer, MessageHub
from torch import nn

from bsst_plugin.checkpoints.check import check_fits, read_state_dict
from bsst_plugin.errors import UserError


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def refused(path, call=read_state_dict, *args):
    """The message of the error; one line that names the path."""
    with pytest.raises(UserError) as error:
        call(path, *args)
    message = str(error.value)
    assert str(path) in message
    assert '\n' not in message
    return message


def test_bare_state_dict(model, tmp_path):
    path = tmp_path / 'bare.pth'
    torch.save(model.state_dict(), path)
    state = read_state_dict(path)
    assert set(state) == set(model.state_dict())
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    check_fits(path, model)


def test_checkpoint_of_mmengine(model, tmp_path):
    """With the log history that it saves, which torch.load does not know by itself."""
    hub = MessageHub.get_instance('test_check')
    for value in (1.5, 2.5):
        hub.update_scalar('train/loss', value)
    hub.update_info('iter', 2)
    hub.update_info('best_score', np.float64(31.5))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(1, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / 'iter_2.pth'
    torch.save(
        dict(
            meta=dict(iter=2, epoch=0, cfg='type = 1', experiment_name='x'),
            state_dict=model.state_dict(),
            message_hub=hub.state_dict(),
            optimizer=optimizer.state_dict(),
            param_schedulers=[],
        ),
        path,
    )
    content = torch.load(path, weights_only=True)
    history = content['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert history.mean() == 2.0
    assert set(read_state_dict(path)) == set(model.state_dict())
    check_fits(str(path), model)


def test_missing_file(tmp_path):
    assert 'no such' in refused(tmp_path / 'missing.pth')
    assert 'no such' in refused(tmp_path)


def truncated(tmp_path, keep):
    path = tmp_path / 'truncated.pth'
    torch.save({'weight': torch.rand(50, 50)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    return path


@pytest.mark.parametrize('keep', [0.0, 0.01, 0.5, 0.99])
def test_truncated_file(tmp_path, keep):
    assert 'not a checkpoint' in refused(truncated(tmp_path, keep))


@pytest.mark.parametrize(
    'content',
    [
        b'not a checkpoint\n',
        b'<!DOCTYPE html><html>404</html>',
        b'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n',
        pickle.dumps(print, protocol=2),
        pickle.dumps(dict(weight=[1, 2]), protocol=2),
    ],
    ids=['text', 'page', 'lfs pointer', 'code', 'pickle'],
)
def test_other_files_renamed(tmp_path, content):
    path = tmp_path / 'renamed.pth'
    path.write_bytes(content)
    refused(path)


def test_archive_renamed(tmp_path):
    path = tmp_path / 'archive.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('readme.txt', 'text')
    refused(path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(content=st.binary(min_size=1, max_size=40))
def test_any_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / 'bytes.pth'
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize('content', [[1], {}, 3, torch.rand(3), dict(state_dict={}), dict(a=1)])
def test_no_weights_inside(tmp_path, content):
    path = tmp_path / 'content.pth'
    torch.save(content, path)
    assert 'no network weights' in refused(path)


@pytest.mark.parametrize(
    'content',
    [[1], 'text', torch.rand(3), {1: torch.rand(3)}],
    ids=['list', 'text', 'tensor', 'numbers as names'],
)
def test_state_dict_of_another_type(tmp_path, content):
    path = tmp_path / 'content.pth'
    torch.save(dict(state_dict=content), path)
    refused(path)


def test_another_network(model, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)).state_dict(), path)
    message = refused(path, check_fits, model)
    assert '2 of 4' in message
    assert 'Sequential' in message


def test_missing_weight(model, tmp_path):
    path = tmp_path / 'partial.pth'
    state = model.state_dict()
    del state['1.bias']
    torch.save(state, path)
    assert '3 of 4' in refused(path, check_fits, model)


def test_more_than_the_network_needs_fits(model, tmp_path):
    path = tmp_path / 'more.pth'
    torch.save({**model.state_dict(), 'ema.weight': torch.rand(2)}, path)
    check_fits(path, model)


def test_weights_of_the_flow_estimator_may_be_missing(tmp_path):
    net = nn.ModuleDict(dict(flow_estimator=nn.Linear(1, 1), encoder=nn.Linear(2, 2)))
    path = tmp_path / 'no_flow.pth'
    torch.save(net['encoder'].state_dict(prefix='encoder.'), path)
    check_fits(path, net)
