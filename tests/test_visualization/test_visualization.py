import av
import cv2
import numpy as np

from bsst_plugin.visualization import blur_heat_map, draw_windows, save_comparison, save_video
from bsst_plugin.visualization.maps import KEY_COLOUR, QUERY_COLOUR


def test_heat_map_is_bright_where_blurry():
    blur = np.zeros((8, 8), np.float32)
    blur[:, 4:] = 1
    heat = blur_heat_map(np.full((32, 32, 3), 100, np.uint8), blur)
    assert heat.shape == (32, 32, 3) and heat.dtype == np.uint8
    assert heat[:, :8].mean() + 80 < heat[:, -8:].mean()
    red, _, blue = heat[0, -1]
    assert red > blue  # RGB: inferno ends in yellow


def test_windows_are_outlined_and_the_rest_is_darkened():
    frame = np.full((3, 60, 64), 200, np.uint8).transpose(1, 2, 0)  # as from a tensor
    queries, keys = np.zeros((2, 2), bool), np.zeros((2, 2), bool)
    queries[0, 1] = keys[1, 0] = keys[0, 1] = True
    out = draw_windows(frame, queries, keys, (32, 32))
    assert (out[2:30, 2:30] == 100).all()  # takes no part
    assert (out[16, 48] == 200).all() and (out[48, 16] == 200).all()
    assert tuple(out[16, 33]) == QUERY_COLOUR and tuple(out[16, 36]) == KEY_COLOUR
    assert tuple(out[48, 4]) == KEY_COLOUR
    assert (out[33:, 33:] == 100).all()
    assert (frame == 200).all()


def test_comparison_shows_every_picture(tmp_path):
    red, green = (np.full((40, 50, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0)))
    path = tmp_path / 'table.png'
    save_comparison(path, {'a': [red, green], 'b': [green, green]}, ['one', 'two'])
    picture = cv2.imread(str(path)).reshape(-1, 3)
    counts = [(picture == colour).all(1).sum() for colour in ((0, 0, 255), (0, 255, 0))]
    assert 2.5 < counts[1] / counts[0] < 3.5


def test_video_has_the_frames(tmp_path):
    path = tmp_path / 'a.mp4'
    frames = [np.full((33, 48, 3), 40 * index, np.uint8) for index in range(5)]
    save_video(path, frames, fps=10)
    with av.open(str(path)) as container:
        read = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    assert len(read) == 5 and read[0].shape == (32, 48, 3)
    for index, frame in enumerate(read):
        assert abs(frame.mean() - 40 * index) < 3
