"""Tests of the three packages; they mirror the package tree."""
