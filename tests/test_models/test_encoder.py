import torch
import torch.nn.functional as F

from bsst_plugin.models import FrameEncoder


def test_encoder_is_its_description(randomise):
    encoder = randomise(FrameEncoder(shallow_channels=4, channels=6))
    frames = torch.rand(2, 3, 12, 20)
    x, expected = frames, []
    for stage, stride in ((encoder.to_full, 1), (encoder.to_half, 2), (encoder.to_quarter, 2)):
        conv, _, *blocks = stage
        assert conv.bias is None
        x = F.leaky_relu(F.conv2d(x, conv.weight, stride=stride, padding=1), 0.1)
        assert len(blocks) == (1 if stride == 1 else 2)
        for block in blocks:
            x = block(x)
        expected.append(x)
    out = encoder(frames)
    assert [tuple(o.shape) for o in out] == [(2, 4, 12, 20), (2, 4, 6, 10), (2, 6, 3, 5)]
    for got, wanted in zip(out, expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_frames_are_encoded_alone(randomise):
    encoder = randomise(FrameEncoder(4, 6))
    frames = torch.rand(3, 3, 8, 8)
    alone = [encoder(frame[None]) for frame in frames]
    for together, parts in zip(encoder(frames), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(together, torch.cat(parts), atol=1e-5, rtol=1e-4)
