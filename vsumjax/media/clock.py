"""One clock for MPEG streams that set theirs anew: recordings joined by their bytes, broadcasts.

A transport or program stream is a sequence of packets with time stamps, and nothing forbids that
its clock jumps: two recordings in one file start at the same time, or hours apart. Players carry
on. So does this module, by one rule for picture and sound:

- An epoch is a run of packets, in the order of the file, whose times follow one another. One begins
  where a stream's decoding time goes back, or no longer agrees with the packets around it.
- An epoch that begins within 10 s after what came before it is a gap: its times stay.
- Any other is moved to where its picture begins when the picture before it ended; or all of it
  where everything before ended, if there is no picture or the sound went on for much longer.

A few packets with odd times are damage, not an epoch, and move nothing.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator, Sequence

import av
import numpy as np

FORMATS = ("mpegts", "mpeg")  # transport and program streams
TICKS_PER_S = 90_000  # of the times of every stream in them

_STEP = TICKS_PER_S // 2  # packets of a stream follow one another within it
_BACK = TICKS_PER_S // 100  # times of sound overlap by so much where they are rounded
_APART = 2 * TICKS_PER_S  # picture and sound of one instant lie no further apart in a file
_GAP = 10 * TICKS_PER_S  # a longer one is no pause; FFmpeg's programs have the same limit
_SOUND_AFTER = TICKS_PER_S // 4  # sound may go on for so long after the picture
_FEWEST = 3  # packets of an epoch

_STAMP = np.dtype(
  [
    ("position", np.int64),  # in the file, bytes
    ("stream", np.int64),
    ("decoded", np.int64),  # times in ticks
    ("start", np.int64),
    ("end", np.int64),
    ("is_key", np.bool_),
  ]
)


@dataclasses.dataclass(frozen=True)
class _Track:
  """One stream: from which byte on its times are moved by how much, and its key packets."""

  from_byte: list[int]
  shift: list[int]  # ticks
  key_start: list[int]  # ticks, moved, ascending
  key_byte: list[int]


@dataclasses.dataclass(frozen=True)
class Clock:
  """How the times of a file whose clock jumps are carried on.

  tracks: of each stream that is read, by its index.
  end: of all, in ticks, moved.
  """

  tracks: dict[int, _Track]
  end: int

  def carried_on(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """The packets with their times moved."""
    position = dict.fromkeys(self.tracks, 0)
    for packet in packets:
      track = self.tracks.get(packet.stream_index)
      if track is not None and packet.pts is not None:
        # One without a place came in the same piece of the file as the one before.
        if packet.pos is not None and packet.pos >= 0:
          position[packet.stream_index] = packet.pos
        row = bisect.bisect_right(track.from_byte, position[packet.stream_index]) - 1
        shift = track.shift[max(row, 0)]
        packet.pts += shift
        if packet.dts is not None:
          packet.dts += shift
      yield packet

  def key_byte(self, stream_index: int, start: int) -> int:
    """Where the last key packet at or before a time in ticks lies, or else the first one."""
    track = self.tracks[stream_index]
    return track.key_byte[max(bisect.bisect_right(track.key_start, start) - 1, 0)]


class CarriedOn:
  """An open container whose packets have the times of a clock; else as PyAV's container."""

  def __init__(self, container: av.container.InputContainer, clock: Clock):
    self._container, self._clock = container, clock

  def __getattr__(self, name: str):
    return getattr(self._container, name)

  @property
  def duration(self) -> int:
    """In units of `av.time_base`."""
    return self._clock.end * av.time_base // TICKS_PER_S - (self._container.start_time or 0)

  def demux(self, *streams) -> Iterator[av.Packet]:
    return self._clock.carried_on(self._container.demux(*streams))

  def seek(self, offset: int, *, stream) -> None:
    """As PyAV's, to the key packet at or before `offset`, in the stream's ticks."""
    place = self._clock.key_byte(stream.index, offset)
    self._container.seek(place, stream=stream, unsupported_byte_offset=True)


def read_clock(container: av.container.InputContainer, streams: Sequence) -> Clock | None:
  """Reads all packets of some streams, decoding none, and finds where their clock jumps.

  Args:
    container: it is read to its end.
    streams: at most one with a picture.

  Returns:
    None where it does not jump.
  """
  stamps = _stamps(container, streams)
  picture = next((stream.index for stream in streams if stream.type == "video"), None)
  shift_N = _shifts(stamps, _epochs(stamps, picture), picture)
  if not shift_N.any():
    return None
  stamps["start"] += shift_N
  stamps["end"] += shift_N
  tracks = {
    index: _track(stamps[stamps["stream"] == index], shift_N[stamps["stream"] == index])
    for index in np.unique(stamps["stream"]).tolist()
  }
  return Clock(tracks, int(stamps["end"].max()))


def _stamps(container, streams: Sequence) -> np.ndarray:
  """_STAMP[N]: the packets of some streams with times, in the order of the file."""
  position = {stream.index: 0 for stream in streams}
  rows = []
  for packet in container.demux(*streams):
    if packet.pts is None:
      continue
    if packet.pos is not None and packet.pos >= 0:
      position[packet.stream_index] = packet.pos
    decoded = packet.pts if packet.dts is None else packet.dts
    end = packet.pts + (packet.duration or 0)
    place = (position[packet.stream_index], packet.stream_index)
    rows.append((*place, decoded, packet.pts, end, packet.is_keyframe))
  stamps = np.array(rows, _STAMP)
  # A demuxer gives a packet away when the next one of its stream comes, so they come out of order.
  return stamps[np.argsort(stamps["position"], kind="stable")]


class _Epoch:
  """What is known of an epoch while its packets come."""

  def __init__(self):
    self._last: dict[int, int] = {}  # decoding time of each stream
    self._latest = 0

  def follows(self, stream: int, decoded: int, least: int) -> bool:
    """Whether a packet is the next of its stream, at least so much later."""
    last = self._last.get(stream)
    return last is not None and least <= decoded - last <= _STEP

  def agrees(self, stream: int, decoded: int, least: int) -> bool:
    """Whether it does not go back and is of the time of the packets around it."""
    last = self._last.get(stream, decoded - least)
    return decoded - last >= least and abs(decoded - self._latest) <= _APART

  def take(self, stream: int, decoded: int) -> None:
    self._last[stream] = self._latest = decoded


def _epochs(stamps: np.ndarray, picture: int | None) -> np.ndarray:
  """i64[N]: the number of each packet's epoch, from 0 on in the order in which they begin."""
  # A recording begins with a key frame, which must not overlap the picture before it.
  begins_N = stamps["is_key"] & (stamps["stream"] == picture)
  least_N = np.where(begins_N, (stamps["end"] - stamps["start"]) // 2, -_BACK)
  epochs: list[_Epoch] = []
  numbers = []
  columns = (stamps["stream"], stamps["decoded"], least_N)
  for step in zip(*(column.tolist() for column in columns), strict=True):
    recent = range(len(epochs) - 1, max(len(epochs) - 4, -1), -1)  # the last ones, newest first
    number = next((each for each in recent if epochs[each].follows(*step)), None)
    if number is None and epochs and epochs[-1].agrees(*step):
      number = len(epochs) - 1
    if number is None:
      number = len(epochs)
      epochs.append(_Epoch())
    epochs[number].take(*step[:2])
    numbers.append(number)
  return np.array(numbers, np.int64)


def _shifts(stamps: np.ndarray, epoch_N: np.ndarray, picture: int | None) -> np.ndarray:
  """i64[N]: by how many ticks each packet is moved. `picture` is the index of its stream."""
  shift, shifts = 0, []
  ends = None  # of the picture and of all so far, moved
  for number, size in enumerate(np.bincount(epoch_N)):
    if size >= _FEWEST:
      epoch = stamps[epoch_N == number]
      seen = epoch[epoch["stream"] == picture]
      starts = (seen["start"].min() if len(seen) else None, epoch["start"].min())
      if ends is not None:
        shift = _carried_on(shift, starts, ends)
      all_end = epoch["end"].max() + shift
      picture_end = _end_of(seen["start"]) + shift if len(seen) else None
      ends = (picture_end, all_end if ends is None else max(ends[1], all_end))
    shifts.append(shift)
  return np.array(shifts, np.int64)[epoch_N]


def _end_of(start_N: np.ndarray) -> int:
  """Where the last frame ends, which lasts as long as most: packets may not say how long."""
  start_N = np.sort(start_N)
  return int(start_N[-1] + (np.median(np.diff(start_N)) if len(start_N) > 1 else 0))


def _carried_on(shift: int, starts: tuple[int | None, int], ends: tuple[int | None, int]) -> int:
  """The shift of an epoch, given that of the one before; each pair is of the picture and of all."""
  if 0 <= starts[1] + shift - ends[1] <= _GAP:
    return shift
  if None not in (starts[0], ends[0]) and ends[1] - ends[0] <= _SOUND_AFTER:
    return int(ends[0] - starts[0])
  return int(ends[1] - starts[1])


def _track(stamps: np.ndarray, shift_N: np.ndarray) -> _Track:
  first_K = np.flatnonzero(np.diff(shift_N, prepend=shift_N[0] - 1))
  keys = np.sort(stamps[stamps["is_key"]], order="start")
  return _Track(
    stamps["position"][first_K].tolist(),
    shift_N[first_K].tolist(),
    keys["start"].tolist(),
    keys["position"].tolist(),
  )
