import pytest

from vsumjax.jobs.compile_check import Checked
from vsumjax.studies import tpu_tables
from vsumjax.types import InputError

ROWS = tpu_tables.ROWS[:2]


def test_the_table_stands_between_its_marks(tmp_path, monkeypatch, capsys):
  doc = tmp_path / "tpu.md"
  doc.write_text(f"before\n{tpu_tables.START}\nold\n{tpu_tables.END}\nafter\n")
  report = {
    "rows": 128, "predicted_ms": 623.7, "mfu": 0.459, "exposed_collective_ms": 43.6,
    "hbm_peak_bytes": 12 << 30, "hbm_capacity_bytes": 16 << 30,
  }  # fmt: skip

  def check(config, topology, program):
    doc.write_text(doc.read_text().replace("after", "edited meanwhile"))
    return Checked(report, "")

  monkeypatch.setattr(tpu_tables, "check", check)
  tpu_tables.tpu_tables(doc, ROWS)
  text = doc.read_text()
  assert text.startswith(f"before\n{tpu_tables.START}\n| | program |")
  assert text.endswith(f"{tpu_tables.END}\nedited meanwhile\n")
  assert "| train | v5e:4x4 | 128 | 624 ms | 45.9 % | 44 ms | 12.00 of 16.00 GiB |" in text
  assert "old" not in text
  assert f"2 of 2: {ROWS[1].what}" in capsys.readouterr().err


def test_a_document_without_marks_is_refused_before_anything_is_compiled(tmp_path):
  doc = tmp_path / "tpu.md"
  doc.write_text("nothing")
  with pytest.raises(InputError, match="the marks"):
    tpu_tables.tpu_tables(doc, ROWS)
