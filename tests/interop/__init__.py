"""Tests of working together with what others made."""
