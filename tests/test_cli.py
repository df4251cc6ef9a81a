"""The doors: exit status, what goes to which stream, and who may be told what."""

import sys
from types import SimpleNamespace

import pytest

from vsumjax import cli
from vsumjax.host.stopping import Stopped
from vsumjax.types import InputError


def _raise(error):
  def run():
    raise error

  return run


@pytest.fixture(autouse=True)
def _restore_logging(run_cli):
  """`run_cli` undoes what `cli` does to the libraries' logs."""
  import logging

  yield
  logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
  ("error", "status", "line"),
  [
    (InputError("a.mp4: broken"), 2, "vsumjax train: a.mp4: broken\n"),
    (FloatingPointError("loss is nan"), 2, "vsumjax train: loss is nan\n"),
    (
      PermissionError(13, "Permission denied", "/out"),
      2,
      "vsumjax train: [Errno 13] Permission denied: '/out'\n",
    ),
    (Stopped("stopped; saved at step 3"), 143, "vsumjax train: stopped; saved at step 3\n"),
    (KeyboardInterrupt(), 130, "stopped; the same command resumes from what is finished\n"),
  ],
)
def test_what_the_user_can_mend_is_one_line(capfd, error, status, line):
  assert cli.report("train", _raise(error)) == status
  assert capfd.readouterr() == ("", line)


def test_a_bug_keeps_its_traceback():
  with pytest.raises(ZeroDivisionError):
    cli.report("train", lambda: 1 / 0)


def test_verbose_shows_where():
  with pytest.raises(InputError):
    cli.report("train", _raise(InputError("x")), verbose=True)


def test_a_job_that_ends_gives_zero(capfd):
  assert cli.report("train", lambda: None) == 0
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    ([], "required: command"),
    (["dance"], "invalid choice: 'dance'"),
    (["prepare", "--manifest", "m", "--out", "o"], "--config"),
    (["prepare", "--manifest", "m", "--out", "o", "--config", "c", "--time-shifts", "x"], "'x'"),
    (["train", "--config", "x.py"], "--workdir"),
    (["train", "--config", "x.py", "--workdir", "w", "--config.train.seed"], "--config.KEY=VALUE"),
    (["evaluate", "--checkpoint", "c", "--out", "o", "--config.a=1"], "go with --config"),
    (["evaluate", "--checkpoint", "c", "--out", "o", "--without", "smell"], "'smell'"),
    (["evaluate"], "scores     anybody's scores of a benchmark"),
    (["summarize", "v", "--checkpoint", "c", "--out", "o", "--share", "much"], "'much'"),
    (["train", "--config", "x.py", "--workdir", "w", "--sed", "3"], "--sed"),
    (["benchmark", "breakfast"], "'breakfast'"),
    (["build-dataset", "imagenet"], "'imagenet'"),
  ],
)
def test_a_wrong_command_line_is_refused(capfd, argv, message):
  with pytest.raises(SystemExit) as raised:
    cli.main(argv)
  assert raised.value.code == 2
  out, err = capfd.readouterr()
  assert out == ""
  assert message in err


@pytest.mark.parametrize("video", [[], ["a.mp4", "--video", "b.mp4"]])
def test_summarize_takes_one_video(run_cli, video):
  status, out, err = run_cli("summarize", *video, "--checkpoint", "c", "--out", "o")
  assert (status, out) == (2, "")
  assert err == "vsumjax summarize: give one video file, as an argument or by --video\n"


@pytest.mark.parametrize(
  "command",
  ["train", "cache-teacher", "evaluate", "summarize", "convert", "benchmark", "build-dataset"],
)
def test_every_command_explains_itself(capfd, command):
  with pytest.raises(SystemExit) as raised:
    cli.main([command, "--help"])
  assert raised.value.code == 0
  assert "--verbose" in capfd.readouterr().out


def test_reads_that_end_late_are_passed_over_and_nothing_else(monkeypatch):
  told = []
  monkeypatch.setattr(cli, "_tell_unraisable", told.append)
  monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
  assert cli.report("train", lambda: None) == 0
  late, other = (
    SimpleNamespace(exc_value=RuntimeError(text)) for text in ("Event loop is closed", "other")
  )
  sys.unraisablehook(late)
  sys.unraisablehook(other)
  assert told == [other]
