import pytest

from bsst_plugin.files import whole_file


def test_it_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / 'new' / 'a.txt'
    with whole_file(path) as file:
        file.write(b'text')
        assert not path.exists()
    assert path.read_bytes() == b'text'
    assert list(path.parent.iterdir()) == [path]


def test_what_was_there_stays_until_then_and_after_a_failure(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_bytes(b'old')
    with pytest.raises(OSError, match='disk full'), whole_file(path) as file:
        file.write(b'new')
        raise OSError('disk full')
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]
