"""What a camera does to light: response curve, exposure, sensor noise, compression."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .blur_synthesis import BlurSettings, Layer, Recording, Scene, render_linear

GAMMA = (1.8, 2.4)  # range of the powers of response curves
_LEVELS = 2**16  # of linear light in a response table: steps below 2/255 even where it is steepest
_SHAKE_GAP = (0.6, 2.0)  # of rendered clips, see ``BlurSettings``, frames


@dataclass(frozen=True)
class CaptureSettings:
    """What is drawn at random for each clip: shares of the clips in [0, 1], and ranges.

    Args:
        video_share: Clips of real video. Of what follows, averaged_frames, averaged_step,
            coded_share, jerky_share, shake_share and tripod_share are drawn for those, too.
        least_motion: Mean difference of blurry and sharp frames, of 255, below which another part
            of a video is tried, some times.
        exposure: Part of the time between two frames that the shutter is open.
        still_share: Clips in which nothing moves by more than a pixel during the exposure.
        max_shift: Longest way from one frame to the next, as a part of the frame's size: limits
            the blur of short exposures.
        averaged_share: Clips whose exposures are averages of few sharp frames, as in pairs that
            are made from high-speed video.
        averaged_frames: How many those are.
        averaged_step: Longest way between two of those, pixels: limits the blur.
        gapless_share: Part of those clips whose exposures follow one another without a gap, as
            those of GoPro do.
        shutter_share: Part of those clips whose sharp frames have exposures of their own, and so
            are a little blurry themselves.
        held_share: Part of those clips in which frames repeat the one before.
        coded_share: Part of those clips that are averaged after the camera's response curve.
        jerky_share: Clips in which speeds change within a frame or two.
        shake_share: Clips of a camera in a hand that shakes, if it does not rest.
        soft_share: Clips of a soft lens, in blurry and sharp frames alike.
        softness: Its standard deviation, pixels.
        tripod_share: Clips in which the camera rests and pieces move, at least one.
        noise_share: Clips with sensor noise.
        noise: Its standard deviation at medium brightness, of 255.
        jpeg_share: Clips with compressed blurry frames.
        jpeg_quality: Their quality, 100 is best.
    """

    video_share: float = 0.0
    least_motion: float = 1.5
    exposure: tuple[float, float] = (0.1, 1.0)
    still_share: float = 0.1
    max_shift: float = 0.35
    averaged_share: float = 0.3
    averaged_frames: tuple[int, int] = (3, 11)
    averaged_step: float = 2.5
    gapless_share: float = 0.5
    shutter_share: float = 0.5
    held_share: float = 0.1
    coded_share: float = 0.7
    jerky_share: float = 0.3
    shake_share: float = 0.0
    soft_share: float = 0.5
    softness: tuple[float, float] = (0.3, 1.2)
    tripod_share: float = 0.25
    noise_share: float = 0.5
    noise: tuple[float, float] = (0.3, 3.0)
    jpeg_share: float = 1 / 3
    jpeg_quality: tuple[int, int] = (60, 100)

    def __post_init__(self) -> None:
        shares = [
            self.video_share,
            self.still_share,
            self.averaged_share,
            self.gapless_share,
            self.coded_share,
        ]
        shares += [self.shutter_share, self.held_share, self.jerky_share, self.soft_share]
        shares += [self.shake_share, self.tripod_share, self.noise_share, self.jpeg_share]
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f'needs shares in [0, 1]: {self}')
        ranges = [self.exposure, self.averaged_frames, self.softness, self.noise]
        ranges += [self.jpeg_quality]
        if not all(low <= high for low, high in ranges):
            raise ValueError(f'needs ascending ranges: {self}')
        if not (0 < self.exposure[0] and self.exposure[1] <= 1 and self.averaged_frames[0] >= 2):
            raise ValueError(f'needs 0 < exposure <= 1 and averaged_frames of 2 or more: {self}')
        if not (self.max_shift > 0 and self.averaged_step > 0 and self.noise[0] >= 0):
            raise ValueError(f'needs max_shift > 0, averaged_step > 0 and noise >= 0: {self}')


@dataclass(frozen=True)
class Response:
    """A camera's curve from linear light to the pixel's value, both in [0, 1].

    Args:
        table: Increasing values for evenly spaced linear light, from 0 to 1.
    """

    table: np.ndarray

    def __call__(self, linear: np.ndarray) -> np.ndarray:
        """Pixel values, float32; light outside [0, 1] is clipped."""
        index = np.clip(linear, 0, 1) * (len(self.table) - 1) + 0.5
        return self.table[index.astype(np.uint16)]

    def inverse(self, value: np.ndarray) -> np.ndarray:
        """Linear light of pixel values."""
        return np.interp(value, self.table, np.linspace(0, 1, len(self.table)))


@dataclass(frozen=True)
class Capture:
    """How one clip is taken.

    Args:
        response: The camera's curve.
        recording: Sharp frames that are averaged; None for as many as it takes to look continuous.
        coded: Whether pixel values are averaged instead of light.
        softness: Standard deviation of the lens's blur, pixels.
        noise: ``(shot, read)``: the noise in linear light x has the variance
            ``shot * x + read ** 2``. None for none.
        quality: JPEG quality of blurry frames; None for no compression.
    """

    response: Response
    recording: Recording | None = None
    coded: bool = False
    softness: float = 0.0
    noise: tuple[float, float] | None = None
    quality: int | None = None

    def take(
        self, scene: Scene, settings: BlurSettings, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Take a clip.

        Args:
            scene: What is seen.
            settings: What is rendered.
            rng: Source of the noise.

        Returns:
            Blurry and sharp frames, each ``(size, size, 3)`` uint8 RGB. Noise and compression
            are in the blurry ones only.
        """
        if self.coded:
            scene = Scene(self._code(scene.background), tuple(map(self._code, scene.pieces)))
        blurry, sharp = [], []
        for blur, clean in render_linear(scene, settings, self.recording):
            blur, clean = self._soften(blur), self._soften(clean)
            if self.noise is not None:
                light = self.response.inverse(blur) if self.coded else blur
                noisy = self.response(_add_noise(light, *self.noise, rng))
            else:
                noisy = blur if self.coded else self.response(blur)
            blurry.append(self._compress(_to_uint8(noisy)))
            sharp.append(_to_uint8(clean if self.coded else self.response(clean)))
        return blurry, sharp

    def _code(self, layer: Layer) -> Layer:
        """The layer in pixel values instead of linear light."""
        image = layer.image
        if image.shape[2] == 3:
            return replace(layer, image=self.response(image))
        alpha = image[..., 3:]
        colour = self.response(image[..., :3] / np.maximum(alpha, 1e-6)) * alpha
        return replace(layer, image=np.concatenate((colour, alpha), axis=2))

    def _soften(self, light: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(light, (0, 0), self.softness) if self.softness else light

    def _compress(self, image: np.ndarray) -> np.ndarray:
        if self.quality is None:
            return image
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
        return cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def random_response(rng: np.random.Generator) -> Response:
    """Draw a response curve: sRGB or a power of 1/1.8 to 1/2.4, some with a mild S on top."""
    linear = np.linspace(0, 1, _LEVELS)
    if rng.random() < 0.5:
        value = 1.055 * linear ** (1 / 2.4) - 0.055
        value = np.where(linear <= 0.0031308, 12.92 * linear, value)
    else:
        value = linear ** (1 / rng.uniform(*GAMMA))
    if rng.random() < 0.5:  # more contrast in the middle; the slope stays positive
        value = value - rng.uniform(0, 0.4) * np.sin(2 * math.pi * value) / (2 * math.pi)
    return Response(value.astype(np.float32))


def random_capture(
    settings: BlurSettings, ranges: CaptureSettings, rng: np.random.Generator
) -> tuple[Capture, BlurSettings]:
    """Draw how a clip is taken.

    Args:
        settings: What is rendered; ``blur`` is the range of the strength of a clip.
        ranges: What is drawn.
        rng: Source of every random choice.

    Returns:
        The capture, and ``settings`` with the exposure of this clip, with its strength as the
        upper end of ``blur``, below which camera and pieces move independently, and with how far
        the camera travels.
    """
    exposure = rng.uniform(*ranges.exposure)
    averaged, coded = rng.random() < ranges.averaged_share, False
    if averaged and rng.random() < ranges.gapless_share:
        exposure = 1.0
    blur = min(rng.uniform(*settings.blur), exposure * ranges.max_shift * settings.size)
    recording = None
    if averaged:
        recording = _random_recording(settings, ranges, rng)
        blur = min(blur, recording.frames * ranges.averaged_step)
        coded = bool(rng.random() < ranges.coded_share)
    if rng.random() < ranges.jerky_share:
        settings = jerky(settings, rng)
    softness = rng.uniform(*ranges.softness) if rng.random() < ranges.soft_share else 0.0
    if rng.random() < ranges.tripod_share:
        pieces = (max(1, settings.pieces[0]), max(1, settings.pieces[1]))
        settings = replace(on_a_tripod(settings), pieces=pieces)
    else:  # short paths are bent, and many cameras hardly move
        settings = replace(settings, travel=settings.travel * rng.uniform(0.03, 1))
        if shakes(ranges, rng):
            settings = replace(settings, shake_gap=rng.uniform(*_SHAKE_GAP))
    if rng.random() < ranges.still_share:
        blur = min(blur, rng.uniform(0, 1))
    noise = quality = None
    if rng.random() < ranges.noise_share:
        # A power of 1/2.2 turns shot noise into noise of the same strength everywhere.
        strength = rng.uniform(*ranges.noise) / 255
        noise = ((2.2 * strength) ** 2, strength * rng.uniform(0, 0.15))
    if rng.random() < ranges.jpeg_share:
        quality = int(rng.integers(ranges.jpeg_quality[0], ranges.jpeg_quality[1] + 1))
    capture = Capture(random_response(rng), recording, coded, softness, noise, quality)
    return capture, replace(settings, exposure=exposure, blur=(blur * rng.random(), blur))


def random_count(ranges: CaptureSettings, rng: np.random.Generator) -> int:
    """Draw how many frames are averaged: odd, as an even number has no middle."""
    low, high = ranges.averaged_frames
    return int(rng.integers(low, high + 1)) // 2 * 2 + 1


def on_a_tripod(settings: BlurSettings) -> BlurSettings:
    """The same for a camera that rests."""
    return replace(settings, travel=0, angle=0, zoom=0)


def shakes(ranges: CaptureSettings, rng: np.random.Generator) -> bool:
    """Draw whether the camera is in a hand that shakes; nothing is drawn where none ever is."""
    return ranges.shake_share > 0 and bool(rng.random() < ranges.shake_share)


def jerky(settings: BlurSettings, rng: np.random.Generator) -> BlurSettings:
    """The same with speeds that change sooner."""
    return replace(settings, speed_gap=rng.uniform(0.3, 1.0) * settings.speed_gap)


def _random_recording(
    settings: BlurSettings, ranges: CaptureSettings, rng: np.random.Generator
) -> Recording:
    frames = random_count(ranges, rng)
    shutter = rng.uniform(0.2, 1) if rng.random() < ranges.shutter_share else 0.0
    held = None
    if rng.random() < ranges.held_share:
        held = rng.random(settings.num_frames * frames) < rng.uniform(0, 0.5)
    return Recording(frames, shutter, held)


def _add_noise(light: np.ndarray, shot: float, read: float, rng: np.random.Generator) -> np.ndarray:
    sigma = np.sqrt(shot * np.clip(light, 0, 1) + read**2)
    return light + sigma * rng.standard_normal(light.shape, np.float32)


def _to_uint8(value: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(value, 0, 1)).astype(np.uint8)
