"""What the colours of a frame are, and high dynamic range mapped to the standard one.

HDR frames (BT.2100, with the PQ or the HLG curve) that are shown as ordinary ones look grey. They
are mapped to BT.709, in light that a display shows:

- PQ says it in nits (SMPTE ST 2084). HLG is shown on a display of 1,000 nits, with a gamma of 1.2.
- The largest of red, green and blue goes through the curve of ITU-R BT.2390 (section 5.4) from
  1,000 nits to 203, the white of ITU-R BT.2408; the others keep their ratio to it, so hues stay. Up
  to 88 nits nothing changes, white at 203 becomes 79 % of the light, and 1,000 nits become white.
- BT.2020 primaries become those of BT.709 (ITU-R BT.2087); what lies outside is clipped.
- The display of BT.1886 has a gamma of 2.4.

The map is tabulated at 33 values of each code and interpolated by FFmpeg. Other frames are not
touched.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence

import av
import numpy as np

# Codes of ISO/IEC 23091-2, as FFmpeg and PyAV number them.
UNSPECIFIED = 2
RGB_MATRIX, BT709, BT2020_MATRIX = 0, 1, 9
_PQ, _HLG = 16, 18
_FULL_RANGE = 2

Filters = Sequence[tuple[str, dict[str, str]]]  # names and options

_PEAK_NITS, _WHITE_NITS = 1000.0, 203.0
_TABLE_SIDE = 33
_BT709_FROM_BT2020 = np.array(
  [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
_BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])
# Exact, and the same on every machine.
SCALE_FLAGS = "bilinear+full_chroma_int+full_chroma_inp+accurate_rnd+bitexact"


def is_hdr(frame: av.VideoFrame) -> bool:
  """Whether it says that its curve is PQ or HLG."""
  return int(frame.color_trc) in (_PQ, _HLG)


def is_rgb(frame: av.VideoFrame) -> bool:
  """Whether its pixels are red, green and blue, or places in a palette of such."""
  return frame.format.is_rgb or frame.format.has_palette


def is_full_range(frame: av.VideoFrame) -> bool:
  """Whether black is 0 and white the largest value, where it is not RGB."""
  return int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")


class FrameFilter:
  """FFmpeg's filters for one frame after the other, set up anew where their kind changes."""

  def __init__(self, filters_for: Callable[[av.VideoFrame], Filters]):
    """`filters_for` says what a frame goes through; each gives one frame for one."""
    self._filters_for = filters_for
    self._kind, self._graph = None, None

  def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
    """The frame itself if there is nothing to do."""
    tags = tuple(map(int, (frame.colorspace, frame.color_range, frame.color_trc)))
    kind = (frame.width, frame.height, frame.format.name, frame.rotation, tags)
    if kind != self._kind:
      self._kind, self._graph = kind, _linked(frame, self._filters_for(frame))
    if self._graph is None:
      return frame
    self._graph.vpush(frame)
    return self._graph.vpull()


def _linked(frame: av.VideoFrame, filters: Filters) -> av.filter.Graph | None:
  if not filters:
    return None
  graph = av.filter.Graph()
  source = graph.add(
    "buffer",
    video_size=f"{frame.width}x{frame.height}",
    pix_fmt=frame.format.name,
    time_base=str(frame.time_base),
    colorspace=str(int(frame.colorspace)),
    range=str(int(frame.color_range)),
  )
  steps = [graph.add(name, **options) for name, options in filters]
  graph.link_nodes(source, *steps, graph.add("buffersink")).configure()
  return graph


class StandardRange:
  """Maps HDR frames to BT.709, as this module says, and gives others back as they are."""

  def __init__(self):
    self._map = FrameFilter(_mapping)

  def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
    """A frame of the same size; RGB of 16 bits if it was mapped."""
    return self._map(frame) if is_hdr(frame) else frame


def _mapping(frame: av.VideoFrame) -> Filters:
  to_rgb = {"flags": SCALE_FLAGS}
  if int(frame.colorspace) == UNSPECIFIED and not is_rgb(frame):
    to_rgb["in_color_matrix"] = "bt2020"
  return (
    ("scale", to_rgb),
    ("format", {"pix_fmts": "gbrp16"}),
    ("lut3d", {"file": _table_file(int(frame.color_trc)), "interp": "tetrahedral"}),
    ("setparams", {"color_primaries": "bt709", "color_trc": "bt709"}),
  )


def bt709_from_hdr(code_N3: np.ndarray, curve: int) -> np.ndarray:
  """The map of one colour after the other.

  Args:
    code_N3: f64[N, 3], red, green and blue as coded, 0..1.
    curve: 16 for PQ or 18 for HLG.

  Returns:
    f64[N, 3], as coded by BT.709, 0..1.
  """
  nits_N3 = _nits_of_pq(code_N3) if curve == _PQ else _nits_of_hlg(code_N3)
  largest_N1 = np.maximum(nits_N3.max(axis=1, keepdims=True), 1e-6)
  light_N3 = nits_N3 * _compressed(largest_N1) / largest_N1 / _WHITE_NITS
  return np.clip(light_N3 @ _BT709_FROM_BT2020.T, 0, 1) ** (1 / 2.4)


# Constants of SMPTE ST 2084.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _nits_of_pq(code: np.ndarray) -> np.ndarray:
  root = np.maximum(code, 0) ** (1 / _M2)
  return 10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def _pq_of_nits(nits: np.ndarray) -> np.ndarray:
  root = (nits / 10_000) ** _M1
  return ((_C1 + _C2 * root) / (1 + _C3 * root)) ** _M2


def _nits_of_hlg(code_N3: np.ndarray) -> np.ndarray:
  """ITU-R BT.2100: the scene's light by the inverse curve, then the display's by its luminance."""
  a, b, c = 0.17883277, 0.28466892, 0.55991073
  scene_N3 = np.where(code_N3 <= 0.5, code_N3**2 / 3, (np.exp((code_N3 - c) / a) + b) / 12)
  luminance_N1 = (scene_N3 @ _BT2020_LUMINANCE)[:, None]
  return _PEAK_NITS * np.maximum(luminance_N1, 1e-9) ** 0.2 * scene_N3


def _compressed(nits: np.ndarray) -> np.ndarray:
  """Nits up to `_PEAK_NITS`, and above as that, to nits up to `_WHITE_NITS`; ITU-R BT.2390."""
  peak = _pq_of_nits(np.array(_PEAK_NITS))
  level = np.minimum(_pq_of_nits(nits) / peak, 1)
  most = _pq_of_nits(np.array(_WHITE_NITS)) / peak
  knee = 1.5 * most - 0.5
  t = np.maximum((level - knee) / (1 - knee), 0)
  spline = (
    (2 * t**3 - 3 * t**2 + 1) * knee
    + (t**3 - 2 * t**2 + t) * (1 - knee)
    + (-2 * t**3 + 3 * t**2) * most
  )
  return _nits_of_pq(np.where(level < knee, level, spline) * peak)


@functools.cache
def _tables() -> tempfile.TemporaryDirectory:
  """Removed when the process ends."""
  return tempfile.TemporaryDirectory(prefix="vsumjax-colour-")


@functools.cache
def _table_file(curve: int) -> str:
  """A file in the `.cube` form, which FFmpeg's filter takes: red changes fastest."""
  codes = np.linspace(0, 1, _TABLE_SIDE)
  blue, green, red = np.meshgrid(codes, codes, codes, indexing="ij")
  table_N3 = bt709_from_hdr(np.stack([red, green, blue], axis=-1).reshape(-1, 3), curve)
  # Threads may ask at once, and each has a file of its own then.
  with tempfile.NamedTemporaryFile("w", suffix=".cube", dir=_tables().name, delete=False) as file:
    file.write(f"LUT_3D_SIZE {_TABLE_SIDE}\n")
    np.savetxt(file, table_N3, fmt="%.6f")
  return file.name
