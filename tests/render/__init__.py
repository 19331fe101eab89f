"""Tests of drawings, tables and pages."""
