"""Small files in the formats of the authors of TVSum and SumMe, and eccv16 files."""

import h5py
import numpy as np
import scipy.io

TVSUM = (
  {"id": "AwmHb44_ouw", "title": "#1 Tyres", "category": "VT", "length_s": 3.593, "frames": 107},
  {"id": "-esJrBWj2d8", "title": "ŠKODA 'tip' 稲", "category": "VU", "length_s": 2.0, "frames": 50},
  {"id": "xxdtq8mxegs", "title": "Viña", "category": "VU", "length_s": 4.0, "frames": 96},
)  # fmt: skip
NUM_ANNOTATORS = 4


def tvsum_levels(index):
  """f64[annotators, frames], 1 to 5, of video `index`."""
  rng = np.random.default_rng(index)
  return rng.integers(1, 6, (NUM_ANNOTATORS, TVSUM[index]["frames"])).astype(np.float64)


def write_tvsum_mat(path, *, without=(), change=None):
  """Writes what MATLAB 7.3 writes for the struct `tvsum50`: an array of references a field.

  Args:
    path: of the file.
    without: fields that are left out.
    change: {"field/index of the video": array} that takes the place of the right one.
  """
  with h5py.File(path, "w", userblock_size=512) as file:
    cells = file.create_group("#refs#")
    fields = {}
    for index, video in enumerate(TVSUM):
      levels = tvsum_levels(index)
      content = {
        "video": _codes(video["id"]),
        "title": _codes(video["title"], as_bytes=index != 1),
        "category": _codes(video["category"]),
        "length": np.array([[video["length_s"]]]),
        "nframes": np.array([[float(video["frames"])]]),
        "user_anno": levels,
        "gt_score": levels.mean(axis=0)[None],
      }
      for field, array in content.items():
        array = (change or {}).get(f"{field}/{index}", array)
        cell = cells.create_dataset(f"{field}_{index}", data=array)
        fields.setdefault(field, []).append(cell.ref)
    for field, references in fields.items():
      if field not in without:
        column = np.array(references, dtype=h5py.ref_dtype)[:, None]
        file.create_dataset(f"tvsum50/{field}", data=column, dtype=h5py.ref_dtype)
  return path


def _codes(text, as_bytes=True):
  """A char array: UTF-16 units, or the bytes of UTF-8 one a unit, as the real file has them."""
  data = np.frombuffer(text.encode(), np.uint8) if as_bytes else _utf16(text)
  return data.astype(np.uint16)[:, None]


def _utf16(text):
  return np.frombuffer(text.encode("utf-16-le"), "<u2")


def write_tvsum_tsv(folder, *, lengths=("0:03.593", "2", "0:04")):
  """Writes both tab-separated files."""
  info = ["category\tvideo_id\ttitle\turl\tlength"]
  anno = []
  for index, (video, length) in enumerate(zip(TVSUM, lengths, strict=True)):
    url = f"https://www.youtube.com/watch?v={video['id']}"
    info.append("\t".join([video["category"], video["id"], video["title"], url, length]))
    for row in tvsum_levels(index).astype(int).tolist():
      anno.append("\t".join([video["id"], video["category"], ",".join(map(str, row))]))
  (folder / "ydata-tvsum50-info.tsv").write_text("\n".join(info) + "\n", encoding="utf-8")
  (folder / "ydata-tvsum50-anno.tsv").write_text("\n".join(anno) + "\n", encoding="utf-8")


SUMME = ("Air_Force_One", "Base jumping", "car_over_camera")
SUMME_FPS = {"Air_Force_One": 25, "Base jumping": 29.97002997002997, "car_over_camera": 15}


def summe_codes(name):
  """u8[frames, people], 0 where a person left a frame out."""
  num_frames = 40 + 10 * SUMME.index(name)
  codes = np.zeros((num_frames, 3), np.uint8)
  for person in range(3):
    codes[5 + person : 12 + person, person] = 1
    codes[30:33, person] = 2
  return codes


def write_summe(folder, *, without=(), change=None):
  """Writes GT/*.mat of `SUMME`, in MATLAB 5; `change` takes the place of variables."""
  (folder / "GT").mkdir(parents=True)
  for name in SUMME:
    codes, fps = summe_codes(name), SUMME_FPS[name]
    segments = np.empty((1, 3), object)
    for person in range(3):
      segments[0, person] = np.array([[5.0 + person, 12.0 + person], [30.0, 33.0]]) / fps
    users = np.empty((1, 2), object)
    users[0, :] = ["ME", "ETH_84"]
    content = {
      "nFrames": np.uint16(len(codes)),
      "FPS": fps,
      "video_duration": len(codes) / fps + 0.5,
      "user_score": codes,
      "gt_score": (codes > 0).mean(axis=1)[:, None],
      "segments": segments,
      "all_userIDs": users,
    } | (change or {})
    kept = {key: value for key, value in content.items() if key not in without}
    scipy.io.savemat(folder / "GT" / f"{name}.mat", kept)


def write_eccv16(path, frames, *, names=None, fps=None, full=True, change=None):
  """Writes an eccv16 file of videos of so many frames; without `full`, only what must be there."""
  with h5py.File(path, "w") as file:
    for index, num_frames in enumerate(frames):
      rng = np.random.default_rng(index)
      picks = np.arange(0, num_frames, 15)
      first = np.array([0, num_frames // 3, num_frames // 2])
      last = np.append(first[1:] - 1, num_frames - 1)
      content = {
        "user_summary": rng.integers(0, 2, (3, num_frames)).astype(np.float32),
        "n_frames": np.array(num_frames),
        "picks": picks,
      }
      if full:
        content |= {
          "features": rng.normal(size=(len(picks), 8)).astype(np.float32),
          "gtscore": rng.random(len(picks)).astype(np.float32),
          "gtsummary": rng.integers(0, 2, len(picks)).astype(np.float32),
          "change_points": np.stack([first, last], axis=1),
          "n_frame_per_seg": last - first + 1,
          "n_steps": np.array(len(picks)),
        }
      if names is not None:
        content["video_name"] = names[index]
      if fps is not None:
        content["fps"] = fps
      for key, value in (content | (change or {})).items():
        if value is not None:
          file[f"video_{index + 1}/{key}"] = value
  return path
