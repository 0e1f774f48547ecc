"""Tests of text: tokenizer, templates, detokenizer, stop strings, fitting."""
