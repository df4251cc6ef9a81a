"""Linen modules: one code for teacher, mentor and student."""
