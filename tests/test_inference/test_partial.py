import pytest
import torch

from bsst_plugin.errors import UserError
from bsst_plugin.inference.partial import PartialRun

STATE = {'settings': {'crf': 18}, 'files': {'a.png': [3, 4], 'b.png': [5, 6]}, 'plan': {}}


@pytest.fixture
def job(tmp_path):
    job = PartialRun(tmp_path / 'deep' / 'er' / 'out.mp4')
    job.start(STATE)
    yield job
    job.close()


def test_clips_are_finished_one_after_the_other(job):
    assert job.folder.name == '.out.mp4.partial' and job.finished == 0 and job.tails() == {}
    for clip in range(6):
        job.commit(clip, [float(clip)] * 2, torch.full((1, 2, 3, 4, 5), float(clip)))
        again = PartialRun(job.target)
        assert again.finished == clip + 1
        tails = again.tails()
        assert sorted(tails) == list(range(max(clip - 3, 0), clip + 1))
        assert all((tail == index).all() for index, tail in tails.items())
    assert job.motion() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert len(list(job.folder.glob('*.npy'))) == 4


def test_what_a_killed_run_leaves_does_not_count(job):
    job.commit(0, [], torch.zeros(1))
    (job.folder / 'clip_00001.tmp').write_text('{"mot')
    (job.folder / 'tail_00001.npy').write_bytes(b'half')
    assert job.finished == 1 and sorted(job.tails()) == [0]


def test_same_settings_and_same_input(job):
    settings, files = STATE['settings'], STATE['files']
    job.check(settings, files)
    with pytest.raises(UserError, match='out.mp4: begun with crf=18, not 20'):
        job.check({'crf': 20}, files)
    with pytest.raises(UserError, match='other frames'):
        job.check(settings, {**files, 'c.png': (1, 1)})
    job.check_read(files, read=2)
    changed = {**files, 'b.png': (5, 7)}
    with pytest.raises(UserError, match='b.png has changed'):
        job.check_read(changed, read=2)
    job.check_read(changed, read=1)


def test_start_removes_only_what_is_ours(tmp_path):
    job = PartialRun(tmp_path / 'out')
    job.start(STATE)
    job.commit(0, [], torch.zeros(1))
    job.start(STATE)
    assert job.finished == 0
    (job.folder / 'state.json').unlink()
    (job.folder / 'thesis.txt').write_text('mine')
    with pytest.raises(UserError, match='.out.partial: not an unfinished run'):
        job.start(STATE)
    assert (job.folder / 'thesis.txt').read_text() == 'mine'


@pytest.mark.parametrize('left', [[], ['state.tmp']])
def test_killed_before_its_state_was_written(job, left):
    job.close()
    (job.folder / 'state.json').unlink()
    for name in left:
        (job.folder / name).write_text('{"set')
    again = PartialRun(job.target)
    again.start(STATE)
    assert again.state() == STATE


@pytest.mark.parametrize('entry', ['unlink', 'rmtree'])
def test_killed_while_the_folder_is_removed(job, monkeypatch, entry):
    """Nothing counts as finished, and the next run takes the folder for one of its own."""
    job.commit(0, [], torch.zeros(1))
    (job.folder / 'frames').mkdir()
    (job.folder / 'frames' / '0.png').write_text('a frame')

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if entry == 'rmtree':
            patch.setattr('shutil.rmtree', killed)
        else:  # after the first few files
            unlink, left = type(job.folder).unlink, iter([True, True])
            patch.setattr(
                type(job.folder), 'unlink', lambda p: unlink(p) if next(left, False) else killed()
            )
        job.remove()
    job.close()
    again = PartialRun(job.target)
    assert again.finished == 0
    again.start(STATE)
    assert [path.name for path in again.folder.iterdir()] == ['state.json']


def test_one_run_at_a_time(job):
    job.commit(0, [], torch.zeros(1))
    other = PartialRun(job.target)
    for call in (other.lock, lambda: other.start({})):
        with pytest.raises(UserError, match='out.mp4: another run is writing it'):
            call()
    assert job.finished == 1 and job.state() == STATE  # nothing was touched
    job.close()
    other.lock()


def test_nothing_can_be_written_there(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(UserError, match='cannot be written to'):
        PartialRun(tmp_path / 'file' / 'out.mp4').start(STATE)
