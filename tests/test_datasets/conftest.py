import pytest


@pytest.fixture
def photos(tmp_path, write_photo):
    for seed in range(8):
        write_photo(tmp_path / 'photos' / f'sub{seed % 2}' / f'holiday.{seed}.png', seed)
    write_photo(tmp_path / 'photos' / 'stamp.png', 100, 20, 20, alpha=True)
    return tmp_path / 'photos'
