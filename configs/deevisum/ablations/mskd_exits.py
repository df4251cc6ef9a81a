"""Ablation: multi-stage distillation with exits; the student of the chain."""

from configs.deevisum.student_3b import get_config

__all__ = ["get_config"]
