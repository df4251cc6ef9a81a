"""Cross-validation: what each training sees, what is reused, what is refused, and the report."""

import json

import numpy as np
import pytest

from vsumjax.data.manifest import load_manifest, save_manifest
from vsumjax.data.videos import Labels, Video
from vsumjax.evaluation import context, protocols
from vsumjax.evaluation.benchmark import AnnotatedVideo
from vsumjax.evaluation.score_files import load_scores
from vsumjax.evaluation.splits import Fold, Split, true_folds
from vsumjax.experiment import run
from vsumjax.jobs import cross_validate as job
from vsumjax.types import InputError

FPS, NUM_FRAMES, UNIT_FRAMES = 4.0, 64, 8
PROTOCOL = protocols.BY_NAME["tvsum-rank"]


def make_video(number):
  """20 units of which the later are the more important, as three annotators see it."""
  rng = np.random.default_rng(number)
  level_U = 1 + 4 * np.arange(NUM_FRAMES // UNIT_FRAMES) // (NUM_FRAMES // UNIT_FRAMES)
  noise_AU = rng.integers(-1, 2, (3, len(level_U)))
  levels_AU = np.clip(level_U + noise_AU, 1, 5)
  return AnnotatedVideo(
    id=f"video_{number}",
    num_frames=NUM_FRAMES,
    picks_P=np.arange(0, NUM_FRAMES, 4),
    fps=FPS,
    names=(f"name {number}",),
    levels_AF=np.repeat(levels_AU, UNIT_FRAMES, axis=1).astype(np.uint8),
  )


@pytest.fixture(scope="module")
def videos():
  return tuple(make_video(number) for number in range(1, 7))


@pytest.fixture(scope="module")
def manifest(videos, tmp_path_factory):
  """The same videos as files of ours, by another of their names, and without media."""
  path = tmp_path_factory.mktemp("text") / "manifest.jsonl"
  (path.parent / "said.srt").write_text("1\n00:00:00,000 --> 00:00:09,000\ngood dogs\n")
  entries = [
    Video(
      id=video.names[0],
      media=None,
      title="Dogs",
      split="all",
      transcript=path.parent / "said.srt",
      labels=Labels(UNIT_FRAMES / FPS, video.levels_AF[:, ::UNIT_FRAMES].astype(np.int8)),
      duration_s=NUM_FRAMES / FPS,
    )
    for video in videos
  ]
  save_manifest(path, entries)
  return path


@pytest.fixture(scope="module")
def config(config_values, write_config, tmp_path_factory):
  values = config_values(
    **{
      "prompt.window": 1,
      "prompt.frames_per_segment": 0,
      "prompt.position": 4,
      "prompt.text_tokens": 48,
      "train.num_steps": 4,
      "train.checkpoint_every": 2,
      "train.eval_every": 2,
      "train.keep_best": "validation/ce",
    }
  )
  return str(write_config(tmp_path_factory.mktemp("config") / "tiny.py", values))


@pytest.fixture(scope="module")
def split(videos):
  return true_folds(videos, 2)


@pytest.fixture(scope="module")
def finished(config, manifest, videos, split, tmp_path_factory):
  """A finished cross-validation and its folder; don't change it."""
  out = tmp_path_factory.mktemp("cross_validation")
  return job.cross_validate(config, manifest, videos, split, out, seeds=(0, 1)), out


def read_report(out):
  return json.loads((out / "evaluation.json").read_text())["cross_validation"]


def test_no_training_sees_a_video_that_it_tests(finished, split):
  _, out = finished
  for number, fold in enumerate(split.folds):
    parts = {}
    for video in load_manifest(out / f"fold_{number}" / "manifest.jsonl").videos:
      parts.setdefault(video.split, set()).add(video.id.replace("name ", "video_"))
    assert parts["test"] == set(fold.test)
    assert parts["train"] | parts["validation"] == set(fold.train)
    assert len(parts["validation"]) == 1  # a fifth of three
    assert not parts["train"] & parts["validation"]
    for seed in (0, 1):
      source = json.loads((out / f"fold_{number}/seed_{seed}/config.json").read_text())["data"]
      assert [each["manifest"] for each in source["sets"]] == [
        str(out / f"fold_{number}" / "manifest.jsonl")
      ]
      assert source["validation_split"] == "validation"


def test_the_report_tells_the_rule_the_parts_and_every_value(finished, videos):
  result, out = finished
  report = read_report(out)
  assert report["selection"] == (
    "the parameters with the lowest validation/ce of those of every 2 steps up to 4"
  )
  assert report["seeds"] == [0, 1]
  assert report["split"]["tests_each_video_once"]
  assert len(report["trainings"]) == 4
  assert {t["metric"] for t in report["trainings"]} == {"validation/ce"}
  tau = report["measures"]["tau"]
  assert set(tau["by_video"]) == {video.id for video in videos}
  assert all(len(values["student"]) == 2 for values in tau["by_video"].values())
  by_video = [np.mean(values["student"]) for values in tau["by_video"].values()]
  assert tau["mean"] == pytest.approx(np.mean(by_video))  # folds are of one size
  centre = [values[context.CENTRE] for values in tau["by_video"].values()]
  gained = np.subtract(by_video, centre)
  assert tau["more_than_centre_prior"]["mean"] == pytest.approx(gained.mean())
  assert tau["context"][context.CENTRE] == pytest.approx(np.mean(centre))
  assert result.over_seeds("tau").mean == tau["mean"]


def test_all_protocols_are_reported_beside_their_context(finished, videos):
  result, out = finished
  content = json.loads((out / "evaluation.json").read_text())
  parts = {part["name"]: part["rows"] for part in content["protocols"]}
  assert set(parts) == {"tvsum-rank", "uniform-f1", "keep-drop"}
  assert "segments" in content["skipped"]["keyshot-f1"]
  student = parts["tvsum-rank"][0]
  over_seeds = result.over_seeds("tau")
  assert student["means"]["tau"] == pytest.approx(over_seeds.mean)
  low, high = student["intervals"]["tau"]
  assert (high - low) / 2 == pytest.approx(over_seeds.half)
  assert [row["predictor"] for row in parts["tvsum-rank"][1:]] == list(context.DESCRIPTIONS)
  page = (out / "evaluation.html").read_text()
  assert all(video.id in page for video in videos)
  assert any("More than the centre prior" in note for note in content["notes"])


def test_the_scores_of_a_seed_are_a_score_file_of_the_benchmark(finished, videos):
  result, out = finished
  for seed in (0, 1):
    predictions = load_scores(out / "scores" / f"seed_{seed}.json", videos)
    measured = protocols.evaluate(videos, predictions, PROTOCOL, "student")
    told = [t.test.by_video["tau"] for t in result.trained if t.seed == seed]
    assert measured.by_video["tau"] == pytest.approx(told[0] | told[1])


def test_what_is_finished_is_reused(finished, config, manifest, videos, split, monkeypatch):
  result, out = finished
  monkeypatch.setattr(run.loop, "train", None)
  monkeypatch.setattr(job, "load_student", None)
  again = job.cross_validate(config, manifest, videos, split, out, seeds=(0, 1))
  assert again.as_json() == result.as_json()


def test_an_interrupted_one_goes_on_and_gives_the_same(
  finished, config, manifest, videos, split, tmp_path, monkeypatch
):
  result, _ = finished
  trained = []

  def train(config, workdir, *args, **kwargs):
    if len(trained) == 1:
      raise KeyboardInterrupt
    trained.append(workdir)
    return run.run_training(config, workdir, *args, **kwargs)

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(job, "run_training", train)
    job.cross_validate(config, manifest, videos, split, tmp_path, seeds=(0,))
  finished_at = [(w / "FINISHED.json").stat().st_mtime_ns for w in trained]
  again = job.cross_validate(config, manifest, videos, split, tmp_path, seeds=(0,))
  assert [(w / "FINISHED.json").stat().st_mtime_ns for w in trained] == finished_at
  of_seed = [each for each in result.trained if each.seed == 0]
  assert [each.test.by_video for each in again.trained] == [each.test.by_video for each in of_seed]


def test_folds_that_overlap_are_measured_and_flagged(
  finished, config, manifest, videos, tmp_path, capsys
):
  ids = [video.id for video in videos]
  folds = (Fold(tuple(ids[2:]), tuple(ids[:2])), Fold((ids[0], *ids[3:5]), tuple(ids[1:3])))
  result = job.cross_validate(config, manifest, videos, Split("drawn", folds), tmp_path, seeds=(0,))
  table = " ".join(capsys.readouterr().out.split())
  assert "The folds overlap: 1 videos are tested by several of them and 3 by none." in table
  report = read_report(tmp_path)
  assert not report["split"]["tests_each_video_once"]
  assert len(report["measures"]["tau"]["by_video"][ids[1]]["student"]) == 2
  assert set(result.context[0].by_video["tau"]) == set(ids[:3])
  assert report["measures"]["tau"]["half_interval_over_seeds"] is None  # of one seed
  assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_differ(config, manifest, videos, split, tmp_path, seeds):
  with pytest.raises(InputError, match="seeds: needs one or more different numbers"):
    job.cross_validate(config, manifest, videos, split, tmp_path, seeds=seeds)


def test_a_video_that_the_manifest_lacks_is_named(config, manifest, videos, split, tmp_path):
  entries = load_manifest(manifest).videos
  save_manifest(tmp_path / "fewer.jsonl", entries[1:])
  with pytest.raises(InputError, match=r"fewer.jsonl: lacks video_1, which the split"):
    job.cross_validate(config, tmp_path / "fewer.jsonl", videos, split, tmp_path / "out")


def test_a_folder_of_another_plan_is_refused(finished, config, manifest, videos):
  _, out = finished
  with pytest.raises(InputError, match=r"plan.json: was made for other folds"):
    job.cross_validate(config, manifest, videos, true_folds(videos, 3), out, seeds=(0, 1))


def test_other_settings_are_refused_before_anything_is_trained(
  finished, config, manifest, videos, split
):
  _, out = finished
  with pytest.raises(InputError, match=r"cannot resume: train.num_steps"):
    job.cross_validate(
      config, manifest, videos, split, out, seeds=(0, 1), overrides={"train.num_steps": "5"}
    )


def test_a_config_that_cannot_be_trained_is_refused_at_once(
  config, manifest, videos, split, tmp_path
):
  with pytest.raises(InputError, match=r"train.keep_best: 'validation/tau' is not one of"):
    job.cross_validate(
      config,
      manifest,
      videos,
      split,
      tmp_path,
      overrides={"train.keep_best": "validation/tau"},
    )
  assert not list(tmp_path.glob("fold_*/seed_*"))
