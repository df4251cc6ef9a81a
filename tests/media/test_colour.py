"""Colours of a summary, and of what a model sees, are the source's, and called what they are."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from vsumjax.media import colour, excerpts, video

COLOURS = np.array(
  [
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)],
    [(0, 0, 0), (128, 128, 128), (255, 255, 0), (200, 60, 30)],
  ],
  np.uint8,
)
CELL = 32
PICTURE = COLOURS.repeat(CELL, axis=0).repeat(CELL, axis=1)
BT709, BT2020, PQ, HLG, LIMITED, FULL = 1, 9, 16, 18, 1, 2


def write_frames(path, codec, frame, options=None, **tags):
  """Ten frames at 25 a second; tags are codes of the encoder's colours."""
  with av.open(str(path), "w") as container:
    stream = container.add_stream(codec, rate=25, options=options or {})
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
    for name, code in tags.items():
      setattr(stream.codec_context, name, code)
    for index in range(10):
      frame.pts, frame.time_base = index, Fraction(1, 25)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def summary(path, folder):
  """The fifth frame of a summary, and it as RGB by what it says of itself."""
  excerpts.write_excerpts(path, np.array([[0.0, 0.4]]), folder / "out.mp4")
  with av.open(str(folder / "out.mp4")) as container:
    frame = list(container.decode(video=0))[4]
  matrix = {1: "ITU709"}.get(int(frame.colorspace))
  return frame, frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()


def tags(frame):
  """Matrix, primaries, curve, range."""
  fields = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
  return tuple(map(int, fields))


def cells(pixels):
  return pixels[CELL // 2 :: CELL, CELL // 2 :: CELL].astype(int)


@pytest.mark.parametrize(
  ("name", "codec", "pixel_format"),
  [
    ("rgba.apng", "apng", "rgba"),
    ("png.mov", "png", "rgb24"),
    ("animation.mov", "qtrle", "argb"),
    ("lossless.mkv", "ffv1", "bgr0"),
    ("ten_bits.mkv", "ffv1", "gbrp10le"),
    ("screen.mp4", "libx264rgb", "rgb24"),
  ],
)
def test_rgb_is_coded_by_bt709_and_says_so(tmp_path, name, codec, pixel_format):
  frame = av.VideoFrame.from_ndarray(PICTURE, "rgb24").reformat(format=pixel_format)
  path = write_frames(tmp_path / name, codec, frame)
  shown, pixels = summary(path, tmp_path)
  assert shown.format.name == "yuv420p"
  assert tags(shown) == (BT709, BT709, BT709, LIMITED)
  assert np.abs(cells(pixels) - COLOURS).max() <= 4
  (seen,) = video.iter_frames(path, [0.2], PICTURE.shape[:2])
  assert np.abs(cells(seen) - COLOURS).max() <= 1


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_pictures_of_a_palette_or_with_transparency_are_rgb_too(tmp_path, form):
  path = tmp_path / f"a.{form.lower()}"
  options = {"GIF": {"save_all": True, "duration": 40}, "WEBP": {"lossless": True}}[form]
  image = Image.fromarray(PICTURE)
  if form == "GIF":
    options["append_images"] = [image.rotate(180)] * 9
  image.save(path, **options)
  excerpts.write_excerpts(path, np.array([[0.0, 0.04]]), tmp_path / "out.mp4")
  with av.open(str(tmp_path / "out.mp4")) as container:
    frame = next(container.decode(video=0))
  assert tags(frame) == (BT709, BT709, BT709, LIMITED)
  pixels = frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
  assert np.abs(cells(pixels) - COLOURS).max() <= 6


@pytest.mark.parametrize(
  ("pixel_format", "colorspace", "color_range"),
  [("yuv420p", 1, LIMITED), ("yuv420p", 6, LIMITED), ("yuv420p10le", 9, LIMITED),
   ("yuv420p10le", 1, LIMITED), ("yuvj420p", 5, FULL), ("yuv444p", 2, 0)],
)  # fmt: skip
def test_ordinary_colours_keep_what_they_are_called(
  tmp_path, pixel_format, colorspace, color_range
):
  matrix = {1: "ITU709", 9: "BT2020"}.get(colorspace, "ITU601")
  frame = av.VideoFrame.from_ndarray(PICTURE, "rgb24").reformat(
    format=pixel_format, dst_colorspace=matrix if matrix != "BT2020" else None
  )
  stated = {"colorspace": colorspace, "color_range": color_range} if color_range else {}
  path = write_frames(tmp_path / "in.mp4", "libx264", frame, {"crf": "4"}, **stated)
  with av.open(str(path)) as container:
    source = next(container.decode(video=0))
  shown, _ = summary(path, tmp_path)
  assert shown.format.name == "yuv420p"
  assert tags(shown)[:3] == tags(source)[:3]
  assert tags(shown)[3] in (0, LIMITED)
  to_luma = source.reformat(format="gray8" if color_range == FULL else "gray").to_ndarray()
  expected, luma = cells(to_luma), cells(shown.reformat(format="gray").to_ndarray())
  assert np.abs(expected - luma).max() <= 3
  assert colour.StandardRange()(source) is source


def ramp(curve, path):
  """Ten-bit greys from black to more than white; the codes of the columns, 0..1."""
  code = np.linspace(0, 0.85, 256)
  luma = np.repeat(np.round(64 + 876 * code).astype(np.uint16)[None], 64, axis=0)
  frame = av.VideoFrame(256, 64, "yuv420p10le")
  for plane, values in zip(frame.planes, (luma, *2 * [np.full((32, 128), 512)]), strict=True):
    row = plane.line_size // 2
    padded = np.zeros((values.shape[0], row), np.uint16)
    padded[:, : values.shape[1]] = values
    plane.update(padded.tobytes())
  options = {"crf": "4"} | ({"x265-params": "log-level=none"} if path.suffix == ".mp4" else {})
  codec = "libx265" if path.suffix == ".mp4" else "libx264"
  hdr = {
    "color_trc": curve,
    "color_primaries": BT2020,
    "colorspace": BT2020,
    "color_range": LIMITED,
  }
  frame.color_trc = curve
  write_frames(path, codec, frame, options, **hdr)
  return code


@pytest.mark.parametrize(("name", "curve"), [("a.mp4", PQ), ("b.mp4", HLG), ("c.mkv", PQ)])
def test_hdr_is_mapped_to_sdr_for_players_and_models(tmp_path, name, curve):
  code = ramp(curve, tmp_path / name)
  expected = 255 * colour.bt709_from_hdr(np.stack([code] * 3, axis=1), curve)
  shown, pixels = summary(tmp_path / name, tmp_path)
  assert shown.format.name == "yuv420p"
  assert tags(shown) == (BT709, BT709, BT709, LIMITED)
  assert np.abs(pixels[32] - expected).max() <= 5
  (seen,) = video.iter_frames(tmp_path / name, [0.2], (64, 256))
  assert np.abs(seen[32] - expected).max() <= 3
  assert (np.diff(seen[32].astype(int), axis=0) >= -1).all()  # no bands that go back


def grey(curve, code):
  return float(colour.bt709_from_hdr(np.full((1, 3), code), curve)[0, 0])


def test_the_map_of_hdr_has_the_levels_of_the_standards():
  # ITU-R BT.2408: white, of 203 nits, is PQ 0.58 and HLG 0.75. 26 nits are the grey of a card.
  assert (
    grey(PQ, 0.5807) == pytest.approx(grey(HLG, 0.75), abs=2e-3) == pytest.approx(0.903, abs=2e-3)
  )
  assert grey(PQ, 0.38) == pytest.approx((26 / 203) ** (1 / 2.4), abs=0.01)
  assert grey(PQ, 0.0) == grey(HLG, 0.0) == 0
  # 1,000 nits and more are white.
  assert grey(PQ, 0.7518) == pytest.approx(1, abs=1e-3)
  assert grey(PQ, 1.0) == grey(HLG, 1.0) == 1


def test_the_map_of_hdr_keeps_hues():
  """A red of BT.2020 that BT.709 has: the same light, so the same proportions."""
  light = np.array([[0.3, 0.1, 0.05]])
  to_2020 = np.linalg.inv(colour._BT709_FROM_BT2020)
  dim, bright = (colour._pq_of_nits(nits * light @ to_2020.T) for nits in (100, 600))
  dim, bright = (colour.bt709_from_hdr(code, PQ)[0] ** 2.4 for code in (dim, bright))
  np.testing.assert_allclose(dim / dim[0], [1, 1 / 3, 1 / 6], atol=0.01)
  np.testing.assert_allclose(bright / bright[0], [1, 1 / 3, 1 / 6], atol=0.01)
  assert bright[0] > 4 * dim[0]


def test_a_turned_video_keeps_its_colours(tmp_path):
  frame = av.VideoFrame.from_ndarray(PICTURE, "rgb24").reformat(
    format="yuv420p", dst_colorspace="ITU709"
  )
  path = tmp_path / "turned.mp4"
  with av.open(str(path), "w") as container:
    stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
    stream.codec_context.colorspace = BT709
    stream.set_display_rotation(90)
    for index in range(10):
      frame.pts, frame.time_base = index, Fraction(1, 25)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  shown, pixels = summary(path, tmp_path)
  assert tags(shown)[0] == BT709
  assert shown.rotation == 0
  assert np.abs(cells(pixels) - np.rot90(COLOURS)).max() <= 4
