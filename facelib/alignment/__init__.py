"""Landmarks and aligned faces."""
